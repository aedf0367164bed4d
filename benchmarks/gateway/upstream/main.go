// A worker that costs next to nothing and answers as told: Ollama's and OpenAI's API on several ports of one process.
//
// GET /set?first=20ms&rate=50&tokens=64&size=200 sets for all ports: the wait before the first token, tokens per second
// (0: at once), tokens in a stream, bytes in a whole answer. GET /stats tells what is under way. Every streamed token holds
// "@<nanoseconds when it was sent>@": load and upstream share a clock, so that each token's way can be timed.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

type behaviour struct {
	first  time.Duration
	rate   float64
	tokens int
	size   int
}

// due says when a token is sent, counted from the request's arrival.
func (b *behaviour) due(token int) time.Duration {
	if b.rate == 0 {
		return b.first
	}
	return b.first + time.Duration(float64(token)/b.rate*float64(time.Second))
}

// dialect is how an API words its answers; %s is the model, then the text.
type dialect struct {
	streams     bool // when the body doesn't say
	contentType string
	whole       string
	piece       string
	end         string
}

var dialects = map[string]dialect{
	"/v1/chat/completions": {
		contentType: "text/event-stream",
		whole: `{"id":"c1","object":"chat.completion","created":1700000000,"model":"%s","choices":[{"index":0,"message":` +
			`{"role":"assistant","content":"%s"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":8,"total_tokens":13}}`,
		piece: `data: {"id":"c1","object":"chat.completion.chunk","created":1700000000,"model":"%s","choices":[{"index":0,"delta":` +
			`{"content":"%s"},"finish_reason":null}]}` + "\n\n",
		end: `data: {"id":"c1","object":"chat.completion.chunk","created":1700000000,"model":"%s","choices":[{"index":0,"delta":` +
			`{"content":"%s"},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n",
	},
	"/api/chat": {
		streams:     true,
		contentType: "application/x-ndjson",
		whole: `{"model":"%s","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"%s"},"done":true,` +
			`"done_reason":"stop","total_duration":2000000,"load_duration":1000,"prompt_eval_count":5,"eval_count":8,"eval_duration":1000000}`,
		piece: `{"model":"%s","created_at":"2026-01-01T00:00:00.000Z","message":{"role":"assistant","content":"%s"},"done":false}` + "\n",
		end: `{"model":"%s","created_at":"2026-01-01T00:00:00.000Z","message":{"role":"assistant","content":"%s"},"done":true,` +
			`"done_reason":"stop","total_duration":2000000,"load_duration":1000,"prompt_eval_count":5,"eval_count":8,"eval_duration":1000000}` + "\n",
	},
}

var (
	now                      atomic.Pointer[behaviour]
	active, total, abandoned atomic.Int64
)

func main() {
	ports := flag.String("ports", "", "ports to listen on, separated by commas")
	model := flag.String("model", "fake:latest", "the model that is here")
	flag.Parse()
	now.Store(&behaviour{first: time.Millisecond, tokens: 64, size: 200})

	mux := http.NewServeMux()
	mux.HandleFunc("GET /set", set)
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"active":%d,"total":%d,"abandoned":%d}`+"\n", active.Load(), total.Load(), abandoned.Load())
	})
	for path, it := range dialects {
		mux.HandleFunc("POST "+path, it.answer)
	}
	for path, text := range map[string]string{ // what a gateway's checks ask
		"/api/version": `{"version":"0.17.4"}`,
		"/api/tags": `{"models":[{"name":"` + *model + `","model":"` + *model + `","modified_at":"2026-01-01T00:00:00.123456789Z","size":1000000,` +
			`"digest":"abc","details":{"format":"gguf","family":"llama","families":["llama"],"parameter_size":"1B","quantization_level":"Q4_0"}}]}`,
		"/api/ps": `{"models":[{"name":"` + *model + `","model":"` + *model + `","size":1000000,"digest":"abc","size_vram":1000000,` +
			`"context_length":4096,"expires_at":"2030-01-01T00:00:00Z"}]}`,
		"/v1/models": `{"object":"list","data":[{"id":"` + *model + `","object":"model","created":1700000000,"owned_by":"library"}]}`,
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, text)
		})
	}
	for _, port := range strings.Split(*ports, ",") {
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			log.Fatal(err)
		}
		go func() { log.Fatal(http.Serve(listener, mux)) }()
	}
	select {}
}

func set(w http.ResponseWriter, r *http.Request) {
	to, query := *now.Load(), r.URL.Query()
	var errs [4]error
	if query.Has("first") {
		to.first, errs[0] = time.ParseDuration(query.Get("first"))
	}
	if query.Has("rate") {
		to.rate, errs[1] = strconv.ParseFloat(query.Get("rate"), 64)
	}
	if query.Has("tokens") {
		to.tokens, errs[2] = strconv.Atoi(query.Get("tokens"))
	}
	if query.Has("size") {
		to.size, errs[3] = strconv.Atoi(query.Get("size"))
	}
	for _, err := range errs {
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	now.Store(&to)
}

func (it dialect) answer(w http.ResponseWriter, r *http.Request) {
	active.Add(1)
	total.Add(1)
	defer active.Add(-1)
	begun, how := time.Now(), now.Load()
	body, err := io.ReadAll(r.Body)
	asked := struct {
		Model  string `json:"model"`
		Stream *bool  `json:"stream"`
	}{}
	if err != nil || json.Unmarshal(body, &asked) != nil {
		http.Error(w, `{"error":"not JSON"}`, http.StatusBadRequest)
		return
	}
	if stream := asked.Stream; (stream == nil && it.streams) || (stream != nil && *stream) {
		it.stream(w, r, how, asked.Model, begun)
		return
	}
	if !sleepUntil(r, begun.Add(how.due(0))) {
		return
	}
	text := fmt.Sprintf(it.whole, asked.Model, strings.Repeat("x", max(0, how.size-len(it.whole))))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	io.WriteString(w, text)
}

func (it dialect) stream(w http.ResponseWriter, r *http.Request, how *behaviour, model string, begun time.Time) {
	w.Header().Set("Content-Type", it.contentType)
	flusher := w.(http.Flusher)
	before, after, _ := strings.Cut(fmt.Sprintf(it.piece, model, "\x00"), "\x00")
	piece := make([]byte, 0, 512)
	for token := range how.tokens {
		if (token == 0 || how.rate > 0) && !sleepUntil(r, begun.Add(how.due(token))) {
			return
		}
		piece = append(append(piece[:0], before...), '@')
		piece = append(strconv.AppendInt(piece, time.Now().UnixNano(), 10), '@')
		piece = append(piece, after...)
		if _, err := w.Write(piece); err != nil {
			abandoned.Add(1)
			return
		}
		flusher.Flush()
	}
	fmt.Fprintf(w, it.end, model, "")
}

// sleepUntil says false when the client has left before.
func sleepUntil(r *http.Request, moment time.Time) bool {
	left := time.Until(moment)
	if left <= 0 {
		return true
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		abandoned.Add(1)
		return false
	}
}

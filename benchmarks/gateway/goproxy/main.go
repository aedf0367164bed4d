// The yardstick of a compiled proxy: net/http's ReverseProxy over several workers in turn. It reads the model's name from
// each body, as any gateway for models must, and does nothing else: no authentication, no metering, no limits.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
)

func main() {
	listen := flag.String("listen", "", "address to listen on")
	workers := flag.String("workers", "", "addresses, separated by commas")
	flag.Parse()

	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns = 0
	transport.MaxIdleConnsPerHost = 4096
	transport.DisableCompression = true
	transport.Proxy = nil

	var targets []*url.URL
	for _, address := range strings.Split(*workers, ",") {
		targets = append(targets, &url.URL{Scheme: "http", Host: address})
	}
	var turn atomic.Uint64
	proxy := &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(targets[turn.Add(1)%uint64(len(targets))])
		},
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !hasModel(r) {
			http.Error(w, "no model", http.StatusBadRequest)
			return
		}
		proxy.ServeHTTP(w, r)
	}
	log.Fatal(http.ListenAndServe(*listen, http.HandlerFunc(handler)))
}

// hasModel reads the body, and leaves it to be read again.
func hasModel(r *http.Request) bool {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var asked struct {
		Model string `json:"model"`
	}
	return err == nil && json.Unmarshal(body, &asked) == nil && asked.Model != ""
}

// Load on a gateway, and what it came to, as one line of JSON. One goroutine and one connection a client.
//
// Closed loop: -clients ask again and again for -for, or -times each. Open loop: -rate requests/s at random moments, whose
// latency counts from the moment at which they should have left. CPU and memory are those of -pid and its descendants.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

var (
	address  = flag.String("address", "", "where the gateway listens")
	path     = flag.String("path", "/v1/chat/completions", "what is asked")
	model    = flag.String("model", "fake:latest", "model")
	token    = flag.String("token", "", "bearer token")
	stream   = flag.Bool("stream", false, "ask for streams")
	tokens   = flag.Int("tokens", 0, "tokens that a stream must have; with fewer it is an error")
	clients  = flag.Int("clients", 64, "closed loop: clients at once")
	times    = flag.Int("times", 0, "closed loop: requests of each client; 0: until -for has passed")
	ramp     = flag.Duration("ramp", 0, "closed loop: time over which the clients begin")
	rate     = flag.Float64("rate", 0, "open loop: requests/s; 0: closed loop")
	length   = flag.Duration("for", 5*time.Second, "how long new requests are begun")
	patience = flag.Duration("patience", 60*time.Second, "how long one request may take")
	pid      = flag.Int("pid", 0, "the gateway's process")
)

func main() {
	flag.Parse()
	if *address == "" {
		log.Fatal("load: -address is missing")
	}
	watch := watchProcess(*pid)
	begun := time.Now()
	var samples []sample
	if *rate > 0 {
		samples = openLoop(begun)
	} else {
		samples = closedLoop(begun)
	}
	report := summarize(samples, time.Since(begun))
	watch.into(report)
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		log.Fatal(err)
	}
}

func closedLoop(begun time.Time) []sample {
	each := make([][]sample, *clients)
	var all sync.WaitGroup
	for i := range each {
		all.Add(1)
		go func() {
			defer all.Done()
			time.Sleep(time.Duration(float64(*ramp) * float64(i) / float64(*clients)))
			c := newClient()
			defer c.close()
			for n := 0; (*times > 0 && n < *times) || (*times == 0 && time.Since(begun) < *length); n++ {
				s := c.ask(time.Now())
				each[i] = append(each[i], s)
				if s.fault != "" {
					time.Sleep(20 * time.Millisecond) // a gateway that refuses must not be measured by how fast it refuses
				}
			}
		}()
	}
	all.Wait()
	var samples []sample
	for _, some := range each {
		samples = append(samples, some...)
	}
	return samples
}

func openLoop(begun time.Time) []sample {
	idle := make(chan *client, 65536)
	var samples []sample
	var guard sync.Mutex
	var all sync.WaitGroup
	for next := begun; ; {
		next = next.Add(time.Duration(rand.ExpFloat64() / *rate * float64(time.Second)))
		if next.Sub(begun) > *length {
			break
		}
		time.Sleep(time.Until(next))
		all.Add(1)
		go func(due time.Time) {
			defer all.Done()
			var c *client
			select {
			case c = <-idle:
			default:
				c = newClient()
			}
			s := c.ask(due)
			guard.Lock()
			samples = append(samples, s)
			guard.Unlock()
			idle <- c
		}(next)
	}
	all.Wait()
	return samples
}

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// sample is what one request came to; times in milliseconds.
type sample struct {
	latency, first float64   // to the end, and to the first token; a whole answer has no first
	relayed        []float32 // of each token, from the upstream's sending to its arrival here
	fault          string
}

// client speaks HTTP/1.1 itself: net/http would cost as much as the gateways that are measured.
type client struct {
	conn    net.Conn
	reader  *bufio.Reader
	request []byte
	number  int // where the request's number stands in it
	marks   marks
	buffer  [8192]byte
}

const numberWidth = 8

// sent counts requests. It begins elsewhere in each run: no prompt is asked twice, so no cache can answer.
var sent atomic.Int64

func init() { sent.Store(time.Now().UnixMicro() % 50_000_000) }

func newClient() *client {
	body := fmt.Sprintf(`{"model":"%s","messages":[{"role":"user","content":"Say hello to the gateway, please. Number %s."}],"stream":%t}`,
		*model, strings.Repeat("#", numberWidth), *stream)
	head := "POST " + *path + " HTTP/1.1\r\nHost: " + *address + "\r\nAuthorization: Bearer " + *token +
		"\r\nContent-Type: application/json\r\nAccept: */*\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	request := []byte(head + body)
	return &client{request: request, number: bytes.Index(request, []byte("####"))}
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// ask sends one request and reads its answer. since: the moment from which it is timed.
func (c *client) ask(since time.Time) sample {
	s := sample{}
	if err := c.exchange(&s, since); err != nil {
		s.fault = worded(err)
		c.close()
	}
	s.latency = milliseconds(time.Since(since))
	return s
}

// worded leaves out what differs from one connection to the next, so that equal faults are counted together.
func worded(err error) string {
	var network *net.OpError
	if !errors.As(err, &network) {
		return err.Error()
	}
	if network.Timeout() {
		return network.Op + ": timeout"
	}
	return network.Op + ": " + network.Err.Error()
}

func (c *client) exchange(s *sample, since time.Time) error {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", *address, *patience)
		if err != nil {
			return err
		}
		c.conn, c.reader = conn, bufio.NewReaderSize(conn, 8192)
	}
	c.conn.SetDeadline(time.Now().Add(*patience))
	copy(c.request[c.number:], fmt.Sprintf("%0*d", numberWidth, sent.Add(1)%100_000_000))
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	head, err := c.readHead()
	if err != nil {
		return err
	}
	c.marks = marks{sample: s, since: since, partial: c.marks.partial[:0]}
	if err := c.readBody(head); err != nil {
		return err
	}
	if head.closes {
		c.close()
	}
	if head.status != "200" {
		return errors.New("status " + head.status)
	}
	if len(s.relayed) < *tokens {
		return fmt.Errorf("only %d tokens", len(s.relayed))
	}
	return nil
}

type head struct {
	status          string
	length          int // -1: not told
	chunked, closes bool
}

func (c *client) readHead() (head, error) {
	h := head{length: -1}
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return h, err
	}
	words := bytes.Fields(line)
	if len(words) < 2 {
		return h, fmt.Errorf("no status in %q", line)
	}
	h.status = string(words[1])
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return h, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return h, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("content-length")):
			if h.length, err = strconv.Atoi(string(value)); err != nil {
				return h, err
			}
		case bytes.EqualFold(name, []byte("transfer-encoding")):
			h.chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("connection")):
			h.closes = bytes.EqualFold(value, []byte("close"))
		}
	}
}

func (c *client) readBody(h head) error {
	if !h.chunked {
		return c.readSome(h.length)
	}
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return fmt.Errorf("no chunk's size: %q", line)
		}
		if err := c.readSome(int(size)); err != nil {
			return err
		}
		if _, err := c.reader.Discard(2); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
	}
}

// readSome reads so many bytes, or, below zero, all until the connection's end.
func (c *client) readSome(left int) error {
	for left != 0 {
		piece := c.buffer[:]
		if left > 0 {
			piece = piece[:min(left, len(piece))]
		}
		n, err := c.reader.Read(piece)
		c.marks.read(piece[:n])
		if left > 0 {
			left -= n
		}
		if err == io.EOF && left < 0 {
			c.close()
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// marks finds the upstream's "@<nanoseconds>@", whatever pieces they come in.
type marks struct {
	sample  *sample
	since   time.Time
	within  bool
	partial []byte
}

func (m *marks) read(piece []byte) {
	var arrived time.Time
	for {
		before, after, found := bytes.Cut(piece, []byte("@"))
		if m.within {
			m.partial = append(m.partial, before...)
		}
		if !found {
			return
		}
		if m.within {
			if arrived.IsZero() {
				arrived = time.Now()
			}
			if sent, err := strconv.ParseInt(string(m.partial), 10, 64); err == nil {
				if len(m.sample.relayed) == 0 {
					m.sample.first = milliseconds(arrived.Sub(m.since))
				}
				m.sample.relayed = append(m.sample.relayed, float32(arrived.UnixNano()-sent)/1e6)
			}
			m.partial = m.partial[:0]
		}
		m.within = !m.within
		piece = after
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

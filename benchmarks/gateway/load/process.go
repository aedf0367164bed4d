package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	ticks    = 100 // a second, in /proc/<pid>/stat on Linux
	interval = 200 * time.Millisecond
)

// watch follows the CPU time and memory of a process and its descendants.
type watch struct {
	root   int
	before float64
	peak   int
	stop   chan struct{}
	done   chan struct{}
}

func watchProcess(pid int) *watch {
	w := &watch{root: pid, stop: make(chan struct{}), done: make(chan struct{})}
	if pid == 0 {
		return w
	}
	w.before, w.peak = usage(pid)
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.stop:
				return
			case <-time.After(interval):
				_, resident := usage(pid)
				w.peak = max(w.peak, resident)
			}
		}
	}()
	return w
}

func (w *watch) into(r report) {
	if w.root == 0 {
		return
	}
	close(w.stop)
	<-w.done
	cpu, resident := usage(w.root)
	r["cpu_seconds"], r["resident_mb"] = cpu-w.before, float64(max(w.peak, resident))/(1<<20)
}

// usage gives seconds of CPU, in user and kernel, and bytes of resident memory.
func usage(root int) (float64, int) {
	type process struct {
		parent, resident int
		cpu              float64
	}
	all := map[int]process{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // what follows the name: state, parent, ...
		number := func(i int) int { n, _ := strconv.Atoi(fields[i]); return n }
		all[pid] = process{number(1), number(21) * os.Getpagesize(), float64(number(11)+number(12)) / ticks}
	}
	if _, here := all[root]; !here {
		panic(fmt.Sprintf("load: process %d is gone", root))
	}
	var cpu float64
	var resident int
	for pid, it := range all {
		for ancestor := pid; ancestor > 1; ancestor = all[ancestor].parent {
			if ancestor == root {
				cpu, resident = cpu+it.cpu, resident+it.resident
				break
			}
		}
	}
	return cpu, resident
}

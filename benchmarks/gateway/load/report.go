package main

import (
	"math"
	"slices"
	"time"
)

// report is what a run came to, as its reader finds it in JSON. Times in milliseconds.
type report map[string]any

func summarize(samples []sample, wall time.Duration) report {
	var latency, first, relayed []float64
	faults, failed := map[string]int{}, 0
	for _, s := range samples {
		for _, delay := range s.relayed {
			relayed = append(relayed, float64(delay))
		}
		if s.fault != "" {
			faults[s.fault]++
			failed++
			continue
		}
		latency = append(latency, s.latency)
		if s.first > 0 {
			first = append(first, s.first)
		}
	}
	return report{
		"seconds": wall.Seconds(), "requests": len(latency), "failed": failed, "faults": faults,
		"requests_per_second": float64(len(latency)) / wall.Seconds(),
		"tokens":              len(relayed),
		"latency_p50":         percentile(latency, 0.5), "latency_p99": percentile(latency, 0.99),
		"first_p50": percentile(first, 0.5), "first_p99": percentile(first, 0.99),
		"relayed_p50": percentile(relayed, 0.5), "relayed_p99": percentile(relayed, 0.99),
	}
}

func percentile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[max(0, int(math.Ceil(share*float64(len(values))))-1)]
}

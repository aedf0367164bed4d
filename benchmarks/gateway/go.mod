module cluster-ai/bench

go 1.24

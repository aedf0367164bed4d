"""What our gateway costs beside others: fake workers, load and a yardstick (Go), and who is measured (Python)."""

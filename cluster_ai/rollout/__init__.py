"""From what hosts are to what they shall be: probe, plan, and carrying the plan out."""

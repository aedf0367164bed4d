"""Whether a request may run, and when: users and their keys, limits, the queue, and what each user has used."""

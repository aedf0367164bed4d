"""What the gateway tells Prometheus: names, help texts, and the page about them."""

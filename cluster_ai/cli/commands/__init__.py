"""One command a module; main.COMMANDS lists them."""

"""Who asks, what they may, and what they did: users, logins, roles."""

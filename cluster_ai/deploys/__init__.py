"""What pyinfra does on hosts: push a release, switch to it. Runs in pyinfra's process: small, and free of asyncio."""

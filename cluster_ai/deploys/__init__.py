"""What pyinfra does on hosts: push a release, switch to it. Loaded into pyinfra's process, so small and free of asyncio."""

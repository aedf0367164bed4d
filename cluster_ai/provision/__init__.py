"""The edges to hosts: ssh, ansible-runner, pyinfra as a subprocess, bundles of .deb files."""

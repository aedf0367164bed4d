"""The hosts of cluster.yaml for OpenSSH, Ansible and pyinfra."""

from cluster_ai.inventory.ssh import ssh_argv, ssh_options

__all__ = ["ssh_argv", "ssh_options"]

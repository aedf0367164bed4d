"""The hosts of cluster.yaml for OpenSSH, Ansible and pyinfra."""

from cluster_ai.inventory.groups import for_ansible, for_ansible_script, for_pyinfra
from cluster_ai.inventory.ssh import ssh_argv, ssh_options

__all__ = ["for_ansible", "for_ansible_script", "for_pyinfra", "ssh_argv", "ssh_options"]

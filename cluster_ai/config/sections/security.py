"""What keeps the cluster's secrets."""

from __future__ import annotations

from cluster_ai.config.keys import Rules, key, section

SECURITY: Rules = section(
    "How the cluster guards itself.",
    {
        "vault_password_file": key(
            "File on this machine, for your eyes only (0600), with the password of `secrets.yaml`. "
            "`$CLUSTER_AI_VAULT_PASSWORD` and `$CLUSTER_AI_VAULT_PASSWORD_FILE` come before it.",
            form="text",
            absent="`.cluster-ai/vault-password`, which is made at the first need",
            excludes="vault_password_command",
        ),
        "vault_password_command": key(
            "Command on this machine whose first line is that password, such as `pass show cluster-ai`. It is run "
            "without a shell, in the folder of cluster.yaml.",
            form="text",
            absent="no command is asked",
            excludes="vault_password_file",
        ),
    },
)

"""What keeps the cluster's secrets, and how people reach it."""

from __future__ import annotations

from cluster_ai.config.keys import Rules, key, section


def _values(role: str) -> Rules:
    return key(
        f"Of the role {role}.",
        type="list",
        default=[],
        schema={"type": "string", "minlength": 1, "meta": {"doc": "A value of the claim."}},
    )


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
        "tls": section(
            "How people and their programs reach gateway and dashboard. Hosts always speak TLS 1.3 to each other.",
            {
                "enabled": key(
                    "Whether gateway and dashboard speak TLS 1.3. `false` sends prompts, answers, tokens and passwords "
                    "in clear; it is for a network that nobody else is in, or behind a proxy of yours with TLS.",
                    type="boolean",
                    default=True,
                ),
                "names": key(
                    "Further names and addresses that people reach the head host by; the cluster's certificate for it "
                    "holds for them too. `cluster-ai certs rotate issuing` gives it one at once.",
                    type="list",
                    default=[],
                    schema={"form": "host", "meta": {"doc": "A name or an address."}},
                ),
                "certificate": key(
                    "PEM file on this machine with another certificate for them, and those that lead to its root, in "
                    "this order. It must hold for `scheduler.host`. Its key is in the vault: "
                    "`cluster-ai secrets set tls_key < key.pem`.",
                    form="text",
                    absent="one of the cluster's own CA, which renews itself",
                ),
            },
        ),
        "oidc": key(
            "An OpenID provider (Keycloak, Authentik, Dex, Entra, Google) that people log in by, beside users with "
            "passwords: on the dashboard, and with `cluster-ai login --oidc`.",
            "users with passwords alone",
            type="dict",
            schema={
                "issuer": key("Its address, just as its own metadata has it.", form="https", required=True),
                "client_id": key(
                    "The dashboard's id there. Its secret is in the vault: `cluster-ai secrets set oidc_secret`. The "
                    "address to redirect to is the dashboard's, with /oauth2callback.",
                    type="string",
                    minlength=1,
                    required=True,
                ),
                "cli_client_id": key(
                    "The id there of `cluster-ai login`, which has no secret: a public client with PKCE that redirects "
                    "to http://127.0.0.1, any port.",
                    type="string",
                    minlength=1,
                    absent="`client_id`",
                ),
                "name_claim": key(
                    "The claim that has a person's name; what follows an @ is left out.",
                    type="string",
                    minlength=1,
                    default="preferred_username",
                ),
                "role_claim": key(
                    "The claim that has what gives roles; dots lead into it (`realm_access.roles`).",
                    type="string",
                    minlength=1,
                    default="groups",
                ),
                "roles": section(
                    "Whom it gives which role: values of that claim. The highest counts; who has none gets in nowhere.",
                    {role: _values(role) for role in ("viewer", "user", "operator", "admin")},
                ),
                "session": key(
                    "How long a login lasts before the provider is asked again.", form="duration", default="12h"
                ),
            },
        ),
    },
)

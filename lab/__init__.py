"""A lab: several real systemd hosts on one Linux machine (systemd-nspawn, overlayfs, a bridge), to try a cluster on."""

"""`streamlit run dashboard/app.py`; $CLUSTER_AI_DASHBOARD_SETTINGS names a file of settings.DashboardSettings."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import streamlit as st

from cluster_ai import settings
from dashboard import access, acting, live
from dashboard.app_pages import (
    audit,
    configuration,
    models,
    overview,
    performance,
    playground,
    rollouts,
    tasks,
    workers,
)

HERE = Path(__file__).parent
PAGES = {  # title, path, icon, what draws it; the one without a path comes first
    "Cluster": (
        ("Overview", "", ":material/monitoring:", overview.draw),
        ("Workers", "workers", ":material/dns:", workers.draw),
        ("Models", "models", ":material/neurology:", models.draw),
        ("Performance", "performance", ":material/speed:", performance.draw),
    ),
    "Work": (
        ("Playground", "playground", ":material/chat:", playground.draw),
        ("Tasks", "tasks", ":material/checklist:", tasks.draw),
    ),
    "Changes": (
        ("Rollouts", "rollouts", ":material/rocket_launch:", rollouts.draw),
        ("Configuration", "configuration", ":material/settings:", configuration.draw),
        ("Audit", "audit", ":material/history_edu:", audit.draw),
    ),
}

# Where nothing hovers, a table's toolbar is always there, over what stands above the table: the choice of time.
_STYLE = "<style>@media (hover: none) { [data-testid='stElementToolbar'] { display: none; } }</style>"


@st.cache_resource(show_spinner=False)
def _settings() -> settings.DashboardSettings:
    return settings.load(settings.DashboardSettings, Path(os.environ["CLUSTER_AI_DASHBOARD_SETTINGS"]))


def main() -> None:
    sources = live.Sources(_settings())
    st.set_page_config(page_title=sources.settings.cluster, page_icon=str(HERE / "static" / "icon.svg"), layout="wide")
    st.logo(str(HERE / "static" / "logo.svg"), size="large", icon_image=str(HERE / "static" / "icon.svg"))
    st.html(_STYLE)
    gate = access.gate(sources)
    if gate is not None:
        st.navigation(
            [st.Page(partial(gate, sources), title="Sign in", url_path="sign-in", default=True)], position="hidden"
        ).run()
        return
    pages = {
        section: [
            st.Page(partial(draw, sources), title=title, icon=icon, url_path=path, default=not path)
            for title, path, icon, draw in drawn
        ]
        for section, drawn in PAGES.items()
    }
    home = pages["Cluster"][0]
    named = st.Page(partial(st.switch_page, home), title=home.title, url_path="overview", visibility="hidden")
    page = st.navigation({**pages, "Cluster": [*pages["Cluster"], named]})
    with st.sidebar:
        access.sidebar(sources)
    acting.outcome()
    page.run()


main()

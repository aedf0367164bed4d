from cluster_ai.cli.main import run

run()

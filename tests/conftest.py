"""For all tests: how long hypothesis takes says nothing about the code, for machines are slow and busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

from __future__ import annotations

from types import ModuleType

import pytest

from tests.rig.scripts import script


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return script("clients/generate.py")


def test_the_description_and_the_types_are_what_the_gateway_has(generator: ModuleType) -> None:
    for path, text in generator.wanted().items():
        assert path.read_text() == text, f"{path} is behind: run python clients/generate.py"


def test_every_operation_has_an_example_a_summary_and_documented_errors(generator: ModuleType) -> None:
    api = generator.description()
    schemas = api["components"]["schemas"]

    def has_example(schema: dict[str, object]) -> bool:
        named = str(schema.get("$ref", "")).rpartition("/")[2]
        return "examples" in schemas[named] if named else bool(schema.get("anyOf") or schema.get("examples"))

    for operations in api["paths"].values():
        for it in operations.values():
            assert it["summary"], it
            assert it["operationId"].isalpha(), it["operationId"]
            assert {"400", "401", "403", "500"} <= it["responses"].keys(), it["operationId"]
            for body in [it["requestBody"]] if "requestBody" in it else []:
                assert has_example(body["content"]["application/json"]["schema"]), it["operationId"]
            for status, reply in it["responses"].items():
                for content in reply.get("content", {}).values():
                    assert has_example(content["schema"]), (it["operationId"], status)
            for parameter in it.get("parameters", ()):
                if parameter["in"] == "path":
                    assert parameter.get("examples") or parameter["schema"].get("examples"), it["operationId"]


def test_a_schema_that_the_generator_does_not_know_is_an_error_and_no_wrong_type(generator: ModuleType) -> None:
    with pytest.raises(ValueError, match="patternProperties"):
        generator._type({"type": "object", "patternProperties": {}})

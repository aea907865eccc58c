"""Every rule of the settings has a stack file that breaks it; the file's comments say which faults must appear."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from components.settings import SettingsError, model, reading, rules, sources
from components.settings.reading import Settings

from_file_once = functools.cache(sources.from_file)

FILES = sorted((Path(__file__).parent / "stack_files").glob("*.yaml"))


def header(path: Path, word: str) -> list[str]:
    lines = path.read_text(errors="replace").splitlines()
    return [line.removeprefix(f"# {word}: ") for line in lines if line.startswith(f"# {word}: ")]


def expected(path: Path) -> list[tuple[str, str]]:
    return sorted((key, phrase) for key, _, phrase in (line.partition(": ") for line in header(path, "expect")))


def read(path: Path) -> Settings:
    return Settings.from_stack_file(path, stack=next(iter(header(path, "stack")), "dev"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_that_breaks_a_rule_yields_exactly_the_faults_it_names(path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read(path)
    found = sorted((fault.key, fault.rule) for fault in caught.value.faults)
    assert [key for key, _ in found] == [key for key, _ in expected(path)]
    for (_, rule), (_, phrase) in zip(found, expected(path), strict=True):
        assert phrase in rule
    for fault in caught.value.faults:
        assert fault.fix, f"{fault.key}: a fault must say what to do"
        assert fault.key in str(caught.value)
        assert fault.rule in str(caught.value)
        assert len(fault.value) <= 100


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_without_a_rule_some_file_would_pass_with_fewer_faults(rule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "from_file", from_file_once)
    monkeypatch.setattr(reading, "RULES", tuple(one for one in rules.RULES if one is not rule))

    def unnoticed(path: Path) -> bool:
        try:
            read(path)
        except SettingsError as error:
            return len(error.faults) < len(expected(path))
        return True

    assert any(unnoticed(path) for path in FILES)


def keys_of(fields: type[BaseModel], path: str) -> Iterator[str]:
    for name, field in fields.model_fields.items():
        if not field.exclude:
            yield path + ("aws:region" if name == "region" else field.alias or name)


def test_every_setting_has_a_file_that_breaks_it() -> None:
    broken = {key for path in FILES for key, _ in expected(path)}
    wanted = [
        *keys_of(model.SettingsFields, ""),
        *keys_of(model.Model, "model."),
        *keys_of(model.Window, "schedule[0]."),
        *keys_of(model.ExistingNetwork, "network."),
        *keys_of(model.CapacityReservation, "capacityReservation."),
        *keys_of(model.Advanced, "advanced."),
    ]
    assert [key for key in wanted if key not in broken] == []


def test_the_fuller_half_of_a_mended_file_is_sound(tmp_path: Path) -> None:
    """The files break rules and nothing else: without the lines at fault, the common part of them is accepted."""
    lines = (Path(__file__).parent / "stack_files" / "floor-above-cap.yaml").read_text().splitlines()
    mended = tmp_path / "Pulumi.dev.yaml"
    mended.write_text("\n".join(line for line in lines if "floor" not in line))
    assert Settings.from_stack_file(mended).floor == 0

"""The whole loop on one table, by arithmetic done by hand."""

import subprocess
import sys
from pathlib import Path

import cost as cost_script
import pytest

from almost_data.cli.console import console
from almost_data.errors import InputError
from almost_data.run import presets
from almost_data.run.cost import CostLine

RECIPES = Path(__file__).parents[2] / "recipes"
SECOND = 1e14 * 3600
"""Operations of an hour."""


def planned(
    file: Path, *assignments: str, preset: str = "almost", limit: int | None = None
) -> dict[str, CostLine]:
    lines, _ = cost_script.loop(presets.load(preset, assignments=assignments, limit=limit), file)
    assert len({line.task for line in lines}) == len(lines)
    return {line.task: line for line in lines}


def test_the_paper_s_run() -> None:
    lines = planned(RECIPES / "almost.yaml")
    assert list(lines)[:2] == ["train: As-is RM", "queries"] and list(lines)[-1] == "train: PPO"
    # 20k pairs, of which 95% are trained on, once; both sides of 1024 tokens; 8 operations at 7B.
    asis = lines["train: As-is RM"]
    assert (asis.requests, asis.tokens_in, asis.tokens_out) == (19_000, 19_000 * 2 * 1024, 0)
    assert asis.gpu_hours == pytest.approx(8 * 7e9 * 38_912_000 / SECOND)
    assert asis.disk == 7e9 * 4
    # 13k of 10k queries; the query's 15 tokens and a reply of 768.
    rm = lines["train: reward model"]
    assert (rm.requests, rm.tokens_in) == (12_350, 12_350 * 2 * 783)
    # Two conversations a query, three epochs, cut at 512.
    sft = lines["train: SFT"]
    assert (sft.requests, sft.tokens_in) == (57_000, 57_000 * 512)
    assert sft.gpu_hours == pytest.approx(8 * 7e9 * 57_000 * 512 / SECOND)
    # A comparison for each reply, both sides of 783; the reference reads them too.
    dpo = lines["train: DPO"]
    assert (dpo.requests, dpo.tokens_in) == (19_000, 19_000 * 2 * 783)
    assert dpo.gpu_hours == pytest.approx((8 + 2) * 7e9 * dpo.tokens_in / SECOND)
    # 9,500 prompts, three epochs, replies of 512. Four rounds of training policy and value model; the policy
    # writes at a tenth of the speed; reference, value and reward model read once.
    ppo = lines["train: PPO"]
    assert (ppo.requests, ppo.tokens_out) == (28_500, 28_500 * 512)
    work = 28_500 * 527 * ((20 + 2 + 4 * 8) + (2 + 2 + 4 * 8))
    assert ppo.gpu_hours == pytest.approx(7e9 * work / SECOND)
    # The reward models are those of the recipe, whatever they will be called.
    assert lines["ratings: reward model"].model == lines["demonstrations: reward model"].model == asis.model
    assert lines["demonstrations: reward model"].requests == 80_000


def test_what_the_settings_say_counts() -> None:
    lines = planned(
        RECIPES / "tiny.yaml", "demonstrations.n=2", "demonstrations.turns=4", preset="tiny", limit=20
    )
    assert lines["train: As-is RM"].requests == 128  # the recipe's limit
    assert lines["train: reward model"].requests == 25  # 95% of 26
    assert lines["demonstrations: reward model"].requests == 20 * 2 * 2
    assert lines["demonstrations: 270M-User-3shot"].requests == 20
    # The whole dialogue: the query, a round of 400 tokens, and the last reply.
    assert lines["train: SFT"].tokens_in == 19 * min(15 + 400 + 192, 512)
    assert (lines["train: PPO"].requests, lines["train: PPO"].tokens_out) == (32, 32 * 48)


def test_steps_without_gradient_checkpointing_cost_less_and_checkpoints_take_room(tmp_path: Path) -> None:
    file = tmp_path / "it.yaml"
    text = "all: {gradient_checkpointing: GRADIENT}\nrm: {model_name_or_path: a/b-2b, num_train_epochs: 2}\n"
    text += "sft: {model_name_or_path: a/b-1b, save_total_limit: 5}\ndpo: {}\nppo: {total_episodes: 100}\n"
    hours = []
    for name, gradient in (("gradient", "true"), ("activation", "false")):  # transformers 5.24 renamed it
        file.write_text(text.replace("gradient", name).replace("GRADIENT", gradient))
        lines, most = cost_script.loop(presets.load("almost"), file)
        assert most == 12 * 1e9 * 5  # more than two of the 2B model's
        hours.append({line.task: line.gpu_hours for line in lines})
    again, once = hours
    assert again["train: reward model"] == pytest.approx(once["train: reward model"] * 8 / 6)
    work = 100 * (15 + 53) * (1e9 * (20 + 2 + 4 * 6) + 2e9 * (4 + 4 * 6))
    assert once["train: PPO"] == pytest.approx(work / SECOND)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "no such file"),
        ("rm: {}\nsft: {}\ndpo: {}\n", "no section 'ppo'"),
        (
            "rm: {num_train_epochs: [1]}\nsft: {}\ndpo: {}\nppo: {}\n",
            r"num_train_epochs: \[1\] is not a number",
        ),
        ("rm: {limit: .inf}\nsft: {}\ndpo: {}\nppo: {}\n", "limit: inf is not a number"),
        ("rm: 3\nsft: {}\ndpo: {}\nppo: {}\n", "a section maps arguments"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / "it.yaml").write_text(text)
    with pytest.raises(InputError, match=why):
        cost_script.loop(presets.load("almost"), tmp_path / "it.yaml")


def test_a_model_without_a_size_leaves_the_sum_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "it.yaml").write_text("rm: {model_name_or_path: ORG/some}\nsft: {}\ndpo: {}\nppo:\n")
    assert planned(tmp_path / "it.yaml")["train: PPO"].gpu_hours is None
    cost_script.main(["--recipes", str(tmp_path / "it.yaml")])
    printed = capsys.readouterr().out
    assert printed.split("\nall ")[1].split("\n")[0].split()[-1] == "?"
    assert "its checkpoints take room that the models' names do not tell" in " ".join(printed.split())


def test_the_table_needs_no_trl() -> None:
    script = RECIPES / "reproduce" / "cost.py"
    code = f"import runpy, sys\nsys.argv = ['cost.py', '--recipes', {str(RECIPES / 'almost.yaml')!r}]\n"
    code += (
        f"sys.path.insert(0, {str(script.parent)!r})\nrunpy.run_path({str(script)!r}, run_name='__main__')\n"
    )
    code += "assert not {'trl', 'torch', 'transformers'} & set(sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\n  PPO " in done.stdout and "Assumed" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("preset", ["tiny", "almost", "modern"])
def test_the_table_fits_a_terminal_of_80_columns(
    preset: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--preset", preset, "--recipes", str(RECIPES / "almost.yaml")]
    printed = {}
    for width in (80, 200):
        monkeypatch.setattr(console, "width", width)
        cost_script.main(arguments)
        printed[width] = capsys.readouterr().out
    assert max(map(len, printed[80].splitlines())) <= 80
    # What is narrower breaks between words only, and no row of the table breaks.
    assert printed[80].split() == printed[200].split()
    table, wide = (printed[width].partition("\nModels: ")[0] for width in (80, 200))
    assert table.count("\n") == wide.count("\n")

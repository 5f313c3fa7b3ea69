"""One command line for all recipes: TRL's own classes, YAML below it, and what of it is the recipe."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from almost_data.cli import recipe as recipe_cli
from almost_data.errors import InputError, Stopped
from almost_data.training import Inputs, PolicyInputs, arguments, parse, settings
from tests.overlay import needs_ppo

trl = pytest.importorskip("trl")

RECIPES = ("rm", "sft", "dpo", "rloo", "ppo")
INSTALLED = [*RECIPES[:-1], pytest.param("ppo", marks=needs_ppo)]
FOLDER = Path(__file__).parents[2] / "recipes"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    monkeypatch.setattr(arguments, "default_device", lambda: "cpu")


def parser(recipe: str) -> Any:
    """As the recipe makes it."""
    if recipe == "ppo":
        from trl.experimental.ppo import PPOConfig

        return trl.TrlParser((PolicyInputs, PPOConfig, trl.ModelConfig))
    kinds = {
        "rm": (Inputs, trl.RewardConfig),
        "sft": (Inputs, trl.SFTConfig),
        "dpo": (Inputs, trl.DPOConfig),
        "rloo": (PolicyInputs, trl.RLOOConfig),
    }
    return trl.TrlParser((*kinds[recipe], trl.ModelConfig))


def parsed(
    *flags: str, recipe: str = "rm", dataset: str = "comparisons@0.1.0", artifact: str = "it@0.1.0"
) -> Any:
    return parse(parser(recipe), recipe, ["--dataset", dataset, "--artifact", artifact, *flags])


def config(folder: Path, text: str) -> str:
    (folder / "it.yaml").write_text(text, "utf-8")
    return str(folder / "it.yaml")


# --- YAML ------------------------------------------------------------------------------------------------

LAYERS = """
all: {learning_rate: 1e-3, logging_steps: 7, seed: 1, report_to: none}
rm: {learning_rate: 2e-3, seed: 2, max_length: null, lora_target_modules: [q_proj, v_proj], use_peft: true,
     gradient_checkpointing_kwargs: {use_reentrant: true}, bf16: false}
sft: {max_length: 3}
"""


ALIASES = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{previous}'] * 10)}]\n"
    for previous, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("equals", [False, True])
def test_the_command_line_is_over_the_recipe_s_section_and_that_over_all(
    tmp_path: Path, equals: bool
) -> None:
    path = config(tmp_path, LAYERS)
    named = [f"--config={path}"] if equals else ["--config", path]
    for flags in (["--seed", "3", *named], [*named, "--seed=3"]):
        inputs, args, model_args = parsed(*flags)
        assert (args.learning_rate, args.logging_steps, args.seed) == (2e-3, 7, 3)
        assert (args.max_length, args.bf16, args.report_to) == (None, False, [])
        assert args.gradient_checkpointing_kwargs == {"use_reentrant": True}
        assert (model_args.use_peft, model_args.lora_target_modules) == (True, ["q_proj", "v_proj"])
        assert (inputs.dataset, inputs.artifact, args.use_cpu) == ("comparisons@0.1.0", "it@0.1.0", True)
    assert parsed("--config", path, recipe="sft")[1].learning_rate == 1e-3


def test_yaml_can_name_what_the_command_line_must(tmp_path: Path) -> None:
    path = config(tmp_path, "rm: {dataset: a@0.1.0, artifact: it@0.1.0, limit: 3, dry_run: true}")
    inputs, args, _ = parse(parser("rm"), "rm", ["--config", path])
    assert (inputs.dataset, inputs.limit, inputs.dry_run) == ("a@0.1.0", 3, True)
    assert args.output_dir == "build/.training/it@0.1.0"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("rm: {learning_rat: 1}", r"it\.yaml: rm\.learning_rat: no such argument.* and .*dataset_config"),
        ("all: {max_lenght: 1}\nrm: {}", r"it\.yaml: rm\.max_lenght: no such argument"),
        ("rm: [", r"it\.yaml: not YAML"),
        ("rm: \x00", r"it\.yaml: not YAML"),
        ("sft: {seed: 1}", r"it\.yaml: no section 'rm'"),
        ("- rm", r"it\.yaml: no section 'rm'"),
        ("", r"it\.yaml: no section 'rm'"),
        ("rm: 3", r"it\.yaml: a section maps arguments"),
        ("all: x\nrm: {}", r"it\.yaml: a section maps arguments"),
        ("rm: {learning_rate: fast}", "learning_rate.*invalid float value: 'fast'"),
        ("rm: {learning_rate: true}", "learning_rate.*invalid float value: 'True'"),
        ("rm: {max_length: 5.5}", "max_length.*invalid int value: '5.5'"),
        ("rm: {max_length: many}", "max_length.*invalid int value: 'many'"),
        ("rm: {num_train_epochs: [3]}", r"it\.yaml: rm\.num_train_epochs: give one value, not a list"),
        ("rm: {use_peft: 3}", "use_peft|Truthy"),
        ("rm: {limit: 1.5}", "limit.*invalid int value: '1.5'"),
        ("rm: {limit: 0}", r"recipe\.limit 0: give 1 or more"),
        ("rm: {lr_scheduler_type: wavy}", "wavy"),
        (f"{ALIASES}rm: {{lora_target_modules: *i}}", r"it\.yaml: not YAML: it expands"),
        ("rm: &r {gradient_checkpointing_kwargs: *r}", r"it\.yaml: not YAML: it expands"),
        ("rm: {seed: " + "9" * 5_000 + "}", r"it\.yaml: not YAML: Exceeds the limit"),
        ("rm: {seed: 2020-02-31}", r"it\.yaml: not YAML: day is out of range"),
        ("rm: {gradient_checkpointing_kwargs: " + "{a: " * 40 + "1" + "}" * 41, "deeper than 20 levels"),
        ("rm: {lr_scheduler_kwargs: {a: .nan}}", r"recipe\.lr_scheduler_kwargs\.a: nan is no number"),
        ("rm: {root: null}", r"it\.yaml: rm\.root: give a value, or leave it out"),
        ("rm: {root: {a: 1}}", r"it\.yaml: rm\.root: give one value, not a mapping"),
        ("rm: {limit: {a: 1}}", r"it\.yaml: rm\.limit: give one value, not a mapping"),
        ('rm: {root: "a\\0b"}', r"it\.yaml: rm\.root: has characters"),
        ('rm: {root: "\\ud800"}', r"it\.yaml: rm\.root: has characters"),
        ("rm: {learning_rate: .nan}", r"recipe\.learning_rate: nan is no number"),
        ("rm: {learning_rate: -1}", r"recipe\.learning_rate -1\.0: give 0 or more"),
        ("rm: {limit: 99999999999999999999}", r"recipe\.limit: an integer of more than 64 bits"),
        ("rm: {seed: -1}", r"recipe\.seed -1: give 0 to 4294967295"),
        ("rm: {num_train_epochs: 0}", r"recipe\.num_train_epochs 0\.0: give a number above 0"),
        ("rm: {per_device_train_batch_size: 0}", r"recipe\.per_device_train_batch_size 0: give"),
        ("rm: {gradient_accumulation_steps: -1}", r"recipe\.gradient_accumulation_steps -1: give"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        parse(
            parser("rm"),
            "rm",
            ["--dataset=a@0.1.0", "--artifact=it@0.1.0", "--config", config(tmp_path, text)],
        )
    assert "\n" not in str(caught.value).strip()


def test_a_wrong_artifact_in_a_file_does_not_hide(tmp_path: Path) -> None:
    path = config(tmp_path, "rm: {artifact: comparisons@0.1.0}")
    with pytest.raises(InputError, match="that name is for a dataset"):
        parse(parser("rm"), "rm", ["--dataset=a@0.1.0", "--config", path])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for place in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(InputError, match=rf"{place}: (no such file|not a file)"):
            parsed("--config", str(place))
    for flags in (["--config"], ["--config="]):
        with pytest.raises(InputError, match="name a YAML file"):
            parsed(*flags)
    (tmp_path / "it.yaml").write_bytes(b"rm: \xff")
    with pytest.raises(InputError, match="not UTF-8"):
        parsed("--config", str(tmp_path / "it.yaml"))


# --- flags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--learning_rate", "fast"], "learning_rate.*invalid float value: 'fast'"),
        (["--no_such_flag", "1"], "no argument '--no_such_flag': see --help"),
        (["--learning_rte", "1"], r"no argument '--learning_rte' \(did you mean '--learning_rate'\?\)"),
        (["--limit", "-1"], r"recipe\.limit -1: give 1 or more"),
        (["--artifact", "rm"], "'rm' is not a reference"),
        (["--artifact", "rm@1"], "not a version"),
        (["--license", "Not A Licence"], r"import\.license: needs a licence identifier"),
        (["--chat_template_path", "x"], r"recipe\.chat_template_path: .* share one chat template"),
        (["--model_revision", "v1"], r"leave it out: .* recipe\.model_name_or_path \w+@v1"),
    ],
)
def test_a_flag_that_cannot_be_used_is_one_line(flags: list[str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        parsed(*flags)


@pytest.mark.parametrize("recipe", INSTALLED)
@pytest.mark.parametrize("flag", ["--push_to_hub", "--trust_remote_code"])
def test_no_recipe_pushes_or_runs_code_of_others(recipe: str, flag: str) -> None:
    with pytest.raises(InputError, match=r"leave it out|no argument"):
        parsed(flag, "true", recipe=recipe)


def test_what_must_be_named_is_asked_for() -> None:
    with pytest.raises(InputError, match=r"required: .*--artifact"):
        parse(parser("rm"), "rm", ["--dataset", "a@0.1.0"])


def test_the_work_folder_is_in_the_store_unless_one_is_named() -> None:
    assert parsed("--root", "/a/b")[1].output_dir == "/a/b/.training/it@0.1.0"
    assert parsed("--output_dir", "/c")[1].output_dir == "/c"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("it is\nwrong"), 2, "almost-data: it is wrong\n"),
        (InputError("recipe.artifact x: see recipe.yaml"), 2, "almost-data: --artifact x: see recipe.yaml\n"),
        (Stopped("it broke"), 1, "almost-data: it broke\n"),
        (
            OSError(28, "No space left on device", "a"),
            1,
            "almost-data: a: No space left on device: ",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] x"),
            1,
            "almost-data: a checkpoint cannot",
        ),
        (KeyboardInterrupt(), 130, "almost-data: interrupted: the same command resumes from"),
    ],
)
def test_a_recipe_ends_with_a_code_and_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        recipe_cli.run(main)
    printed = capsys.readouterr()
    assert end.value.code == code and printed.out == "" and printed.err.startswith(line)
    assert printed.err.count("\n") == 1 and "Traceback" not in printed.err


def test_a_bug_ends_with_one_line_and_its_traceback_in_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def main() -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        recipe_cli.run(main)
    [line] = capsys.readouterr().err.splitlines()
    [file] = tmp_path.iterdir()
    assert end.value.code == 1 and line.startswith("almost-data: KeyError: 'a bug'") and str(file) in line
    assert "Traceback" in file.read_text() and "in main" in file.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_signal_ends_a_recipe_with_one_line(
    number: signal.Signals, wrapped: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            if not wrapped:
                raise
            raise RuntimeError("what a library makes of it") from None

    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)  # a process that runs tests may have handlers of its own
    try:
        with pytest.raises(SystemExit) as end:
            recipe_cli.run(main)
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)
    [line] = capsys.readouterr().err.splitlines()
    assert end.value.code == 128 + number and line.startswith("almost-data: interrupted: the same command")


# --- what is the recipe ----------------------------------------------------------------------------------


def settled(*flags: str, recipe: str = "rm") -> dict[str, Any]:
    return settings.settings(*parsed(*flags, recipe=recipe))


@pytest.mark.parametrize(
    "flags",
    [
        ["--logging_steps", "3"],
        ["--output_dir", "/elsewhere"],
        ["--report_to", "tensorboard"],
        ["--use_cpu", "true"],
        ["--attn_implementation", "sdpa"],
        ["--save_steps", "3"],
        ["--run_name", "mine"],
        ["--root", "/elsewhere"],
        ["--gradient_checkpointing", "false"],
        ["--activation_offloading", "true"],
        ["--dataloader_num_workers", "2"],
        ["--per_device_eval_batch_size", "3"],
        ["--dry_run", "true"],
        ["--license", "mit"],
        ["--hub_token", "hf_secret"],
        ["--artifact", "other@0.1.0"],
        ["--model_name_or_path", "/some/folder"],
    ],
)
def test_where_and_how_it_runs_is_no_part_of_the_recipe(flags: list[str]) -> None:
    """The base, the dataset and the card's words are, and stand in the manifest on their own."""
    assert settled(*flags) == settled()


@pytest.mark.parametrize(
    ("flags", "name", "value"),
    [
        (["--learning_rate", "3e-5"], "learning_rate", 3e-5),
        (["--seed", "7"], "seed", 7),
        (["--limit", "9"], "limit", 9),
        (["--single_turn", "true"], "single_turn", True),
        (["--max_length", "99"], "max_length", 99),
        (["--num_train_epochs", "2"], "num_train_epochs", 2.0),
        (["--per_device_train_batch_size", "3"], "per_device_train_batch_size", 3),
        (["--gradient_accumulation_steps", "3"], "gradient_accumulation_steps", 3),
        (["--weight_decay", "0.1"], "weight_decay", 0.1),
        (["--lr_scheduler_type", "cosine"], "lr_scheduler_type", "cosine"),
        (["--warmup_steps", "0.03"], "warmup_steps", 0.03),
        (["--use_peft", "true"], "use_peft", True),
        (["--lora_target_modules", "a", "b"], "lora_target_modules", ["a", "b"]),
        (["--center_rewards_coefficient", "0.01"], "center_rewards_coefficient", 0.01),
        (["--dtype", "bfloat16"], "dtype", "bfloat16"),
    ],
)
def test_what_decides_the_weights_is_the_recipe(flags: list[str], name: str, value: Any) -> None:
    values = settled(*flags)
    assert values == settled() | {name: value}
    assert settled().get(name) != value


# --- the files of the repository -------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", INSTALLED)
@pytest.mark.parametrize("name", ["tiny", "almost"])
def test_every_key_of_the_recipes_files_is_taken(name: str, recipe: str) -> None:
    path = FOLDER / f"{name}.yaml"
    configs = parsed("--config", str(path), recipe=recipe)
    content = yaml.safe_load(path.read_text("utf-8"))
    assert set(content) == {"all", *RECIPES}
    for key, value in ({**content["all"], **content[recipe]}).items():
        [owner] = [config for config in configs if hasattr(config, key)][:1]
        got = getattr(owner, key)
        got = getattr(got, "value", got)
        expected = float(value) if isinstance(got, float) else value
        # TRL takes a list of one apart, and makes "none" a list of none.
        same = [got] if isinstance(expected, list) and isinstance(got, str) else got
        assert same == ([] if key == "report_to" and value == "none" else expected), key


@pytest.mark.parametrize("recipe", ["rm", "sft"])
def test_the_paper_s_file_deviates_in_nothing_on_eight_gpus(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, args, model_args = parsed("--config", str(FOLDER / "almost.yaml"), recipe=recipe)
    args.assistant_only_loss = True  # as recipes/sft.py sets it
    centred = {"setting": "center_rewards_coefficient", "default": None, "used": 0.01}
    ours = [centred] if recipe == "rm" else []
    monkeypatch.setattr(settings, "processes", lambda: 8)
    assert settings.deviations(recipe, inputs, args, model_args) == ours
    monkeypatch.setattr(settings, "processes", lambda: 4)
    batch = settings.PAPER[recipe]["batch"]
    assert settings.deviations(recipe, inputs, args, model_args) == [
        {"setting": "batch", "default": batch, "used": batch // 2},
        *ours,
    ]
    assert settings.settings(inputs, args, model_args)["processes"] == 4


def test_the_tiny_file_s_deviations_are_said() -> None:
    configs = parsed("--config", str(FOLDER / "tiny.yaml"), recipe="rm")
    used = {entry["setting"]: entry["used"] for entry in settings.deviations("rm", *configs)}
    assert used["batch"] == 8 and used["max_length"] == 512 and used["limit"] == 128
    assert not {"per_device_train_batch_size", "logging_steps", "save_steps"} & set(used)
    configs = parsed("--max_steps", "3", recipe="sft")
    used = {entry["setting"]: entry["used"] for entry in settings.deviations("sft", *configs)}
    assert used["num_train_epochs"] == "3 steps"


@pytest.mark.parametrize(
    ("recipe", "defaults"),
    [
        ("dpo", {"learning_rate": 1e-6}),
        pytest.param("ppo", {"learning_rate": 3e-6, "response_length": 53}, marks=needs_ppo),
    ],
)
def test_where_the_paper_gives_no_value_trl_s_default_is_the_default(
    recipe: str, defaults: dict[str, Any]
) -> None:
    configs = parsed("--config", str(FOLDER / "tiny.yaml"), recipe=recipe)
    used = {entry["setting"]: entry["default"] for entry in settings.deviations(recipe, *configs)}
    assert used.items() >= defaults.items()


# --- what a recipe refuses --------------------------------------------------------------------------------


def test_half_a_flag_is_no_flag() -> None:
    with pytest.raises(InputError, match="hub_tok"):
        parsed("--hub_tok", "hf_secret")


@pytest.mark.parametrize(
    "flags",
    [
        "--load_in_4bit true",
        "--resume_from_checkpoint out",
        "--save_only_model true",
        "--enable_jit_checkpoint true",
        "--load_best_model_at_end true --eval_strategy steps --eval_steps 500",
    ],
)
def test_what_would_be_ignored_or_publish_other_weights_is_refused(flags: str) -> None:
    with pytest.raises(InputError, match=f"{flags.split(maxsplit=1)[0][2:]}: leave it out"):
        parsed(*flags.split())


def test_a_sharded_model_is_saved_whole_or_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    from argparse import Namespace

    args = Namespace(push_to_hub=False, load_best_model_at_end=False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_STATE_DICT_TYPE", "SHARDED_STATE_DICT")
    with pytest.raises(InputError, match="FULL_STATE_DICT"):
        arguments.check_supported(args, Namespace(use_peft=False, model_revision="main"))
    monkeypatch.setenv("FSDP_STATE_DICT_TYPE", "FULL_STATE_DICT")
    arguments.check_supported(args, Namespace(use_peft=False, model_revision="main"))
    with pytest.raises(InputError, match=r"without recipe\.use_peft"):
        arguments.check_supported(args, Namespace(use_peft=True, model_revision="main"))


def test_none_where_the_default_is_a_number_is_another_recipe() -> None:
    config = parsed()[1]
    assert "max_length" not in settings.settings(config)
    config.max_length = None
    assert settings.settings(config)["max_length"] is None

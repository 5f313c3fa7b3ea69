"""Reward model: TRL's RewardTrainer on comparisons, with the pairwise logistic loss (paper 2.1).

    python recipes/rm.py --config recipes/tiny.yaml --dataset comparisons@0.1.0 --artifact rm@0.1.0
    python recipes/rm.py --config recipes/almost.yaml --dataset ORG/NAME@v1.0.0 --artifact rm@1.0.0

On community pairs it trains the As-is RM. It reads any preference dataset in one of TRL's formats, and
HH-RLHF, where `--single_turn true` keeps the single-turn part (paper, Table 3). `--use_peft true` trains a
LoRA adapter and merges it.

Deviations from the paper:
- One responder pair is judged on instead of trained on (`--leave_out_pair none` trains on all).
- Rewards are centred (`center_rewards_coefficient`), so that their scale means something to PPO.
- The chat template writes no space after `Assistant:` in the prompt, and EOS after every reply.
- The user names the base model.
"""

if __name__ == "__main__":  # a signal during the imports below ends in a line, too
    from almost_data.cli import ending

    ending.watch()

from dataclasses import dataclass, replace

from transformers import AutoModelForSequenceClassification, set_seed
from trl import ModelConfig, RewardConfig, RewardTrainer, TrlParser, get_peft_config

from almost_data import scoring, training
from almost_data.cli import recipe
from almost_data.training import preflight, reward_report, trainers


@dataclass(frozen=True)
class Inputs(training.Inputs):
    leave_out_pair: str = training.argument(
        "Pair 'A > B' to judge on only, 'none', or 'auto': the pair with the fewest rows.", "auto"
    )


def main(argv: list[str] | None = None) -> None:
    inputs, args, model_args = training.parse(TrlParser((Inputs, RewardConfig, ModelConfig)), "rm", argv)
    source = training.comparisons(training.open_dataset(inputs))
    base = training.find_model(inputs.store, model_args.model_name_or_path)
    tokenizer = trainers.load_tokenizer(base.folder)
    checks = preflight.Preflight()
    preflight.check_dtype(checks, args, model_args)
    preflight.check_tokenizer(checks, tokenizer, training.prepare(tokenizer, base.model.id))
    parts = training.leave_out(source, inputs.leave_out_pair)
    fits = preflight.check_comparisons(checks, source, parts.train, tokenizer, args.max_length)
    rows = trainers.sample(parts.train.filter(fits), inputs.limit, args.seed)
    lengths = preflight.longest_sides(tokenizer, parts.held_out)
    unseen = parts.held_out.filter([n <= (args.max_length or n) for n in lengths])  # as TRL evaluates
    recipe.require(checks)
    run = training.begin("rm", inputs, args, model_args, source, {"base": base}, tokenizer)
    if inputs.dry_run or recipe.is_done(run):
        return

    set_seed(args.seed)  # the score head is random
    network = trainers.load(AutoModelForSequenceClassification, base.folder, model_args, num_labels=1)
    model_args.lora_task_type, model_args.lora_modules_to_save = "SEQ_CLS", ["score"]
    sides = ("prompt", "chosen", "rejected")
    trainer = RewardTrainer(
        model=training.fit(network, tokenizer),
        args=args,
        train_dataset=trainers.dataset(rows, *sides),
        eval_dataset=trainers.dataset(unseen, *sides) if len(unseen) else None,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
    )
    if len(unseen):
        trainer.evaluate()  # of the random head
    before = trainer.state.log_history  # training starts a new log
    speed = trainers.train(trainer, len(rows), run.checkpoint)
    if len(unseen):
        trainer.evaluate()
    folder = trainers.save(trainer, trainer.model, tokenizer, run.final)
    if not training.is_main_process():
        return
    # Judged from the saved files, as users load it.
    judge = scoring.load(str(folder), max_tokens=args.max_length or scoring.MAX_TOKENS)
    report = reward_report.report(judge, replace(parts, train=rows))
    if len(unseen):
        report["subsets"][0]["random_head"] = before[-1]["eval_accuracy"]
    manifest = training.publish(
        run,
        folder,
        trainer,
        ledger=training.account(
            "pair",
            source,
            left_out_pair=len(source.train) - len(parts.train),
            **training.dropped("too_long", fits, len(rows)),
        ),
        counts={"train": len(rows), "test": len(parts.held_out) + len(parts.left_out)},
        history=before + trainer.state.log_history,
        curves=("loss", "accuracy", "eval_loss", "eval_accuracy", "mean_reward"),
        diagnostics={"preflight": checks.record(), "report": report, "speed": speed},
    )
    recipe.show_model(run, manifest)


if __name__ == "__main__":
    recipe.run(main)

"""Reward model: TRL's RewardTrainer on comparisons, with the pairwise logistic loss (paper 2.1).

    python recipes/rm.py --config recipes/tiny.yaml --dataset comparisons@0.1.0 --artifact rm@0.1.0
    python recipes/rm.py --config recipes/almost.yaml --dataset ORG/NAME --dataset_revision v1.0.0 \\
        --artifact rm@1.0.0

The As-is RM is this recipe on community pairs. Any preference dataset in one of TRL's formats will do, and
HH-RLHF, of which `--single_turn true` takes the single-turn part (paper, Table 3). `--use_peft true` trains a
LoRA adapter and merges it.

Deviations from the paper:
- One responder pair is left out of training, to judge on (`--leave_out_pair none` trains on all).
- Rewards are centred (`center_rewards_coefficient`), so that their scale means something to PPO.
- The chat template writes no space after `Assistant:` in the prompt, and EOS after every reply.
- The base model is yours to name.
"""

import time
from dataclasses import dataclass, field, replace

from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
from trl import ModelConfig, RewardConfig, RewardTrainer, TrlParser, get_peft_config

from almost_data import scoring, training
from almost_data.training import preflight, reward_report, trainers


@dataclass
class Inputs(training.Inputs):
    leave_out_pair: str = field(
        default="auto",
        metadata={
            "help": "'A > B' to judge on and not train on; 'none'; 'auto' takes the one with the fewest rows."
        },
    )


def main(argv: list[str] | None = None) -> None:
    inputs, args, model_args = training.parse(TrlParser((Inputs, RewardConfig, ModelConfig)), "rm", argv)
    source = training.comparisons(training.open_dataset(inputs))
    base = training.find_model(inputs.store, model_args.model_name_or_path, model_args.model_revision)
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    checks = preflight.Preflight()
    preflight.check_dtype(checks, model_args)
    preflight.check_tokenizer(checks, tokenizer, training.prepare(tokenizer, base.model.id))
    parts = training.leave_out(source, inputs.leave_out_pair)
    fits = preflight.check_comparisons(checks, source, parts.train, tokenizer, args.max_length)
    rows = trainers.drawn(parts.train.filter(fits), inputs.limit, args.seed)
    short = [n <= (args.max_length or n) for n in preflight.longest_sides(tokenizer, parts.held_out)]
    unseen = parts.held_out.filter(short)  # TRL's evaluation reads no others
    findings = checks.done()
    run = training.begin("rm", inputs, args, model_args, source, base, tokenizer)
    if inputs.dry_run or training.is_done(run):
        return

    set_seed(args.seed)  # the score head is drawn anew
    how = {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
    with trainers.quiet():  # it would warn of that head
        network = AutoModelForSequenceClassification.from_pretrained(base.folder, num_labels=1, **how)
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
        trainer.evaluate()  # of the head as it was drawn
    before = trainer.state.log_history  # training begins a new one
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=run.checkpoint)
    speed = trainers.speed(trainer, started, len(rows), bool(run.checkpoint))
    if len(unseen):
        trainer.evaluate()
    folder = trainers.save(trainer, trainer.model, tokenizer, run.work / "final")
    if not run.main:
        return
    # Judged as others will load it, from the files.
    judge = scoring.load(str(folder), max_tokens=args.max_length or scoring.MAX_TOKENS)
    report = reward_report.report(judge, replace(parts, train=rows))
    history = before + trainer.state.log_history
    if len(unseen):  # the first of them
        report["subsets"][0]["random_head"] = before[-1]["eval_accuracy"]
    training.publish(
        run,
        folder,
        ledger=training.account(
            "pair",
            source,
            left_out_pair=len(source.train) - len(parts.train),
            too_long=len(fits) - int(fits.sum()),
            over_limit=int(fits.sum()) - len(rows),
        ),
        counts={"train": len(rows), "test": len(parts.held_out) + len(parts.left_out)},
        diagnostics={
            "preflight": findings,
            "metrics": trainers.last_metrics(history),
            "curves": training.curves(
                history, ("loss", "accuracy", "eval_loss", "eval_accuracy", "mean_reward")
            ),
            "report": report,
            "speed": speed,
        },
        trainer=trainer,
    )


if __name__ == "__main__":
    training.run(main)

"""Direct preference optimization: TRL's DPOTrainer on comparisons, without a reward model.

    python recipes/dpo.py --config recipes/tiny.yaml --dataset comparisons@0.1.0 --artifact dpo@0.1.0 \\
        --model_name_or_path sft@0.1.0
    python recipes/dpo.py --config recipes/tiny.yaml --dataset demonstrations@0.1.0 \\
        --dataset_config preference --artifact dpo@0.1.0 --model_name_or_path sft@0.1.0

It maximises log sigmoid(beta * (log policy/sft of chosen - log policy/sft of rejected)). It reads any
preference dataset in one of TRL's formats, and HH-RLHF; prompts may have several turns. The reference is the
policy as it starts; with `--use_peft true` it is the base without the adapter, which is merged at the end.

Deviations from the paper: it has PPO, and no DPO. What `tiny.yaml` and `almost.yaml` do not set is TRL's
default.
"""

if __name__ == "__main__":  # a signal during the imports below ends in a line, too
    from almost_data.cli import ending

    ending.watch()

import copy

from transformers import AutoModelForCausalLM, set_seed
from trl import DPOConfig, DPOTrainer, ModelConfig, TrlParser, get_peft_config

from almost_data import training
from almost_data.cli import recipe
from almost_data.training import preflight, samples, trainers


def main(argv: list[str] | None = None) -> None:
    parser = TrlParser((training.Inputs, DPOConfig, ModelConfig))
    inputs, args, model_args = training.parse(parser, "dpo", argv)
    source = training.comparisons(training.open_dataset(inputs))
    base = training.find_model(inputs.store, model_args.model_name_or_path)
    tokenizer = trainers.load_tokenizer(base.folder)
    checks = preflight.Preflight()
    preflight.check_dtype(checks, args, model_args)
    preflight.check_tokenizer(checks, tokenizer, training.prepare(tokenizer, base.model.id))
    fits = preflight.check_comparisons(checks, source, source.train, tokenizer, args.max_length)
    preflight.check_boundary(checks, source.train, tokenizer)
    rows = trainers.sample(source.train.filter(fits), inputs.limit, args.seed)
    lengths = preflight.longest_sides(tokenizer, source.test)
    unseen = source.test.filter([n <= (args.max_length or n) for n in lengths])
    recipe.require(checks)
    run = training.begin("dpo", inputs, args, model_args, source, {"base": base}, tokenizer)
    if inputs.dry_run or recipe.is_done(run):
        return

    set_seed(args.seed)  # the embedding of a new padding token is random
    policy = training.fit(trainers.load(AutoModelForCausalLM, base.folder, model_args), tokenizer)
    peft_config = get_peft_config(model_args)
    sides = ("prompt", "chosen", "rejected")
    trainer = DPOTrainer(
        model=policy,
        # TRL would load the base again, without the embedding of a new token.
        ref_model=None if peft_config else copy.deepcopy(policy),
        args=args,
        train_dataset=trainers.dataset(rows, *sides),
        eval_dataset=trainers.dataset(unseen, *sides) if len(unseen) else None,
        processing_class=tokenizer,
        peft_config=peft_config,
    )
    replies = samples.few(unseen["prompt"], rows["prompt"], args.seed)
    speed, history = trainers.train_with_samples(trainer, tokenizer, len(rows), replies, run.checkpoint)
    folder = trainers.save(trainer, trainer.model, tokenizer, run.final)
    if not training.is_main_process():
        return
    manifest = training.publish(
        run,
        folder,
        trainer,
        ledger=training.account("pair", source, **training.dropped("too_long", fits, len(rows))),
        counts={"train": len(rows), "test": len(unseen)},
        history=trainers.renamed(history),
        curves=("loss", "accuracy", "reward_margin", "eval_loss", "eval_accuracy", "eval_reward_margin"),
        diagnostics={"preflight": checks.record(), "samples": replies.report()[1], "speed": speed},
    )
    recipe.show_model(run, manifest)


if __name__ == "__main__":
    recipe.run(main)

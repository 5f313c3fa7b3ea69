"""Supervised policy: TRL's SFTTrainer on demonstrations, with the loss on the replies only (paper 2.2).

    python recipes/sft.py --config recipes/tiny.yaml --dataset demonstrations@0.1.0 --artifact sft@0.1.0
    python recipes/sft.py --config recipes/almost.yaml --dataset ORG/NAME@v1.0.0 --artifact sft@1.0.0

Besides demonstrations (`messages`) it reads ShareGPT; prompts with `completion`, `response` or `output`, as
Alpaca's; comparisons, where it learns the chosen side; and responses, where `--dataset_config RESPONDER` is
the paper's Self-Play without a reward model.
`--use_peft true` trains a LoRA adapter and merges it.

Deviations from the paper:
- The chat template writes no space after `Assistant:` in the prompt, and EOS after every reply.
- The user names the base model.
"""

if __name__ == "__main__":  # a signal during the imports below ends in a line, too
    from almost_data.cli import ending

    ending.watch()

from transformers import AutoModelForCausalLM, set_seed
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config

from almost_data import training
from almost_data.cli import recipe
from almost_data.training import preflight, samples, trainers


def main(argv: list[str] | None = None) -> None:
    parser = TrlParser((training.Inputs, SFTConfig, ModelConfig))
    inputs, args, model_args = training.parse(parser, "sft", argv)
    args.assistant_only_loss = True  # the paper's loss
    source = training.dialogues(training.open_dataset(inputs))
    base = training.find_model(inputs.store, model_args.model_name_or_path)
    tokenizer = trainers.load_tokenizer(base.folder)
    checks = preflight.Preflight()
    preflight.check_dtype(checks, args, model_args)
    preflight.check_tokenizer(checks, tokenizer, training.prepare(tokenizer, base.model.id))
    fits = preflight.check_dialogues(checks, source, tokenizer, args.max_length)
    rows = trainers.sample(source.train.filter(fits), inputs.limit, args.seed)
    unseen = source.test.filter(preflight.has_room(tokenizer, source.test, args.max_length))
    recipe.require(checks)
    run = training.begin("sft", inputs, args, model_args, source, {"base": base}, tokenizer)
    if inputs.dry_run or recipe.is_done(run):
        return

    set_seed(args.seed)  # the embedding of a new padding token is random
    network = trainers.load(AutoModelForCausalLM, base.folder, model_args)
    trainer = SFTTrainer(
        model=training.fit(network, tokenizer),
        args=args,
        train_dataset=trainers.dataset(rows, "messages"),
        eval_dataset=trainers.dataset(unseen, "messages") if len(unseen) else None,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
    )
    prompts = [training.first_prompts(part["messages"]) for part in (unseen, rows)]
    replies = samples.few(*prompts, args.seed)
    speed, history = trainers.train_with_samples(trainer, tokenizer, len(rows), replies, run.checkpoint)
    folder = trainers.save(trainer, trainer.model, tokenizer, run.final)
    if not training.is_main_process():
        return
    _, texts = replies.report()
    manifest = training.publish(
        run,
        folder,
        trainer,
        ledger=training.account("demonstration", source, **training.dropped("no_room", fits, len(rows))),
        counts={"train": len(rows), "test": len(unseen)},
        history=history,
        curves=("loss", "eval_loss", "mean_token_accuracy", "entropy"),
        diagnostics={"preflight": checks.record(), "samples": texts, "speed": speed},
    )
    recipe.show_model(run, manifest)


if __name__ == "__main__":
    recipe.run(main)

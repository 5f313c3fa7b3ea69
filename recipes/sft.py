"""Supervised policy: TRL's SFTTrainer on demonstrations, with the loss on the replies only (paper 2.2).

    python recipes/sft.py --config recipes/tiny.yaml --dataset demonstrations@0.1.0 --artifact sft@0.1.0
    python recipes/sft.py --config recipes/almost.yaml --dataset ORG/NAME --dataset_revision v1.0.0 \\
        --artifact sft@1.0.0

Besides demonstrations (`messages`) it takes prompts with completions; comparisons, of which it learns the
chosen side; and responses, of which `--dataset_config RESPONDER` is the paper's Self-Play without a reward
model. `--use_peft true` trains a LoRA adapter and merges it.

Deviations from the paper:
- The chat template writes no space after `Assistant:` in the prompt, and EOS after every reply.
- The base model is yours to name.
"""

import time

from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser, get_peft_config

from almost_data import training
from almost_data.training import preflight, samples, trainers

SHOWN_TOKENS = 128
"""Length of the samples in the card."""


def main(argv: list[str] | None = None) -> None:
    inputs, args, model_args = training.parse(
        TrlParser((training.Inputs, SFTConfig, ModelConfig)), "sft", argv
    )
    args.assistant_only_loss = True
    source = training.dialogues(training.open_dataset(inputs))
    base = training.find_model(inputs.store, model_args.model_name_or_path, model_args.model_revision)
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    checks = preflight.Preflight()
    preflight.check_dtype(checks, model_args)
    preflight.check_tokenizer(checks, tokenizer, training.prepare(tokenizer, base.model.id))
    fits = preflight.check_dialogues(checks, source, tokenizer, args.max_length)
    rows = trainers.drawn(source.train.filter(fits), inputs.limit, args.seed)
    unseen = source.test.filter(preflight.with_room(tokenizer, source.test, args.max_length))
    findings = checks.done()
    run = training.begin("sft", inputs, args, model_args, source, base, tokenizer)
    if inputs.dry_run or training.is_done(run):
        return

    set_seed(args.seed)
    how = {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
    with trainers.quiet():
        network = AutoModelForCausalLM.from_pretrained(base.folder, **how)
    trainer = SFTTrainer(
        model=training.fit(network, tokenizer),
        args=args,
        train_dataset=trainers.dataset(rows, "messages"),
        eval_dataset=trainers.dataset(unseen, "messages") if len(unseen) else None,
        processing_class=tokenizer,
        peft_config=get_peft_config(model_args),
    )
    shown = (unseen if len(unseen) else source.train)["messages"].head(samples.SHOWN).to_list()
    kind = samples.UNSEEN if len(unseen) else "from the training rows"
    talks = samples.BeforeAfter(
        {kind: [turns[:1] for turns in shown]}, max_new_tokens=SHOWN_TOKENS, temperature=0.0, seed=args.seed
    )
    if len(unseen):
        trainer.evaluate()
    before = trainer.state.log_history  # training begins a new one
    talks.write(trainer.model, tokenizer)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=run.checkpoint)
    speed = trainers.speed(trainer, started, len(rows), bool(run.checkpoint))
    if len(unseen):
        trainer.evaluate()
    talks.write(trainer.model, tokenizer)
    folder = trainers.save(trainer, trainer.model, tokenizer, run.work / "final")
    if not run.main:
        return
    history = before + trainer.state.log_history
    training.publish(
        run,
        folder,
        ledger=training.account(
            "demonstration",
            source,
            no_room=len(fits) - int(fits.sum()),
            over_limit=int(fits.sum()) - len(rows),
        ),
        counts={"train": len(rows), "test": len(unseen)},
        diagnostics={
            "preflight": findings,
            "metrics": trainers.last_metrics(history),
            "curves": training.curves(history, ("loss", "eval_loss", "mean_token_accuracy", "entropy")),
            "samples": talks.samples(),
            "speed": speed,
        },
        trainer=trainer,
    )


if __name__ == "__main__":
    training.run(main)

"""RLSF without a value model: TRL's RLOO, with the reward and the KL of `ppo.py`.

    python recipes/rloo.py --config recipes/tiny.yaml --dataset demonstrations@0.1.0 --artifact rloo@0.1.0 \\
        --model_name_or_path sft@0.1.0 --reward_model rm@0.1.0

REINFORCE with the other replies to the same prompt as the baseline. TRL maintains it: it goes on from a
checkpoint, generates with vLLM (`--use_vllm true`), clips rewards (`--reward_clip_range`) and lets the
reward model have a tokenizer of its own. Take it unless you want to repeat the paper, which has PPO.

Deviations from the paper: RLOO for PPO. The KL coefficient is TRL's `beta`. The reward model reads a
reply that was cut at `max_completion_length` as if it had ended there, with EOS, since RLOO hands over
text; `--mask_truncated_completions true` leaves such replies out of the loss.
"""

import time

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, set_seed
from trl import ModelConfig, RLOOConfig, RLOOTrainer, TrlParser, get_peft_config

from almost_data import scoring, training
from almost_data.training import preflight, reinforced, samples, trainers


def main(argv: list[str] | None = None) -> None:
    kinds = (training.PolicyInputs, RLOOConfig, ModelConfig)
    inputs, args, model_args = training.parse(TrlParser(kinds), "rloo", argv)
    store = inputs.store
    source = training.prompts(training.open_dataset(inputs))
    base = training.find_model(store, model_args.model_name_or_path, model_args.model_revision)
    reward = training.find_model(store, inputs.reward_model, inputs.reward_revision, "--reward_model")
    tokenizer = AutoTokenizer.from_pretrained(base.folder, padding_side="left")
    reward_tokenizer = AutoTokenizer.from_pretrained(reward.folder)
    judge = scoring.load(str(reward.folder))
    checks = preflight.Preflight()
    preflight.check_dtype(checks, model_args)
    preflight.check_policy(checks, tokenizer, reward_tokenizer, shares_tokens=False)
    preflight.check_reward_sign(checks, judge, samples.comparisons_of(store, reward.manifest))
    fits = preflight.check_prompts(checks, source, tokenizer, inputs.max_prompt_length)
    rows = trainers.drawn(source.train.filter(fits), inputs.limit, args.seed)
    findings = checks.done()
    run = training.begin("rloo", inputs, args, model_args, source, base, tokenizer, {"reward_model": reward})
    if inputs.dry_run or training.is_done(run):
        return

    set_seed(args.seed)
    how = {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
    with trainers.quiet():
        policy = AutoModelForCausalLM.from_pretrained(base.folder, **how)
        reward_model = AutoModelForSequenceClassification.from_pretrained(reward.folder, num_labels=1, **how)
    reward_model.config.name_or_path = reward.model.id  # TRL logs the reward under that name
    args.model_init_kwargs = how  # for the reference, which TRL loads itself
    trainer = RLOOTrainer(
        model=training.fit(policy, tokenizer),
        reward_funcs=reward_model,
        args=args,
        train_dataset=trainers.dataset(rows, "prompt"),
        processing_class=tokenizer,
        reward_processing_classes=reward_tokenizer,
        peft_config=get_peft_config(model_args),
        callbacks=[trainers.stop_on_kl(inputs.max_kl)],
    )
    sampling = {
        "max_new_tokens": args.max_completion_length,
        "temperature": args.temperature,
        "seed": args.seed,
    }
    talks = reinforced.talks(inputs, source, rows, reward, **sampling)
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    talks.write(unwrapped, tokenizer)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=run.checkpoint)
    speed = trainers.speed(trainer, started, len(rows), bool(run.checkpoint))
    talks.write(unwrapped, tokenizer)
    folder = trainers.save(trainer, trainer.model, tokenizer, run.work / "final")
    if run.main:
        reinforced.publish(
            run, folder, trainer, source, fits, rows, talks, judge, findings=findings, speed=speed
        )


if __name__ == "__main__":
    training.run(main)

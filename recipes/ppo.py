"""RLSF: the paper's reinforcement learning from synthetic feedback, with TRL's PPO (paper 2.3).

    python recipes/ppo.py --config recipes/tiny.yaml --dataset demonstrations@0.1.0 --artifact ppo@0.1.0 \\
        --model_name_or_path sft@0.1.0 --reward_model rm@0.1.0

It maximises r(x, y) - kl_coef * log(policy(y|x) / sft(y|x)). Prompts are the first user turns of the
dataset's train split; queries and comparisons have such too. Policy and reference start from SFT, the value
model from the reward model.

Deviations from the paper: its values for PPO were not published, so those in `almost.yaml` are TRL's
defaults, but for the batch and `response_length`, `stop_token` (EOS, so that a reply ends where the policy
ends it) and `missing_eos_penalty` (so that it learns to).

What PPO of TRL 1.12 cannot do: go on from a checkpoint (an interrupted run starts anew), stop because a
callback asks for it (ours raises on a runaway KL), clip or normalise rewards (`whiten_rewards` comes
closest), run with transformers 5.19 or later. TRL has dropped it since. Take `rloo.py`, which TRL
maintains, where you need any of that; take this one to repeat the paper, or where you want a value model.
"""

import time

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, set_seed
from trl import ModelConfig, TrlParser, get_peft_config
from trl.experimental.ppo import PPOConfig, PPOTrainer

from almost_data import scoring, training
from almost_data.training import preflight, reinforced, samples, trainers


def main(argv: list[str] | None = None) -> None:
    kinds = (training.PolicyInputs, PPOConfig, ModelConfig)
    inputs, args, model_args = training.parse(TrlParser(kinds), "ppo", argv)
    if args.stop_token is None and args.stop_token_id is None:
        args.stop_token = "eos"
    if training.processes() > 1:
        args.save_strategy = "no"  # TRL cannot write a checkpoint of PPO then
    args.num_sample_generations = 0  # the card has samples; TRL's would be counted in the replies' length
    store = inputs.store
    source = training.prompts(training.open_dataset(inputs))
    base = training.find_model(store, model_args.model_name_or_path, model_args.model_revision)
    reward = training.find_model(store, inputs.reward_model, inputs.reward_revision, "--reward_model")
    tokenizer = AutoTokenizer.from_pretrained(base.folder, padding_side="left")
    judge = scoring.load(str(reward.folder))
    checks = preflight.Preflight()
    preflight.check_dtype(checks, model_args)
    if training.processes() > 1 and model_args.use_peft:
        checks.say("LoRA", "TRL's PPO takes it in one process only: use one, or recipes/rloo.py", "fatal")
    preflight.check_policy(
        checks, tokenizer, AutoTokenizer.from_pretrained(reward.folder), shares_tokens=True
    )
    preflight.check_reward_sign(checks, judge, samples.comparisons_of(store, reward.manifest))
    fits = preflight.check_prompts(checks, source, tokenizer, inputs.max_prompt_length)
    rows = trainers.drawn(source.train.filter(fits), inputs.limit, args.seed)
    preflight.check_batch(checks, rows, args)
    findings = checks.done()
    others = {"reward_model": reward}
    run = training.begin("ppo", inputs, args, model_args, source, base, tokenizer, others, resumes=False)
    if inputs.dry_run or training.is_done(run):
        return

    set_seed(args.seed)
    how = {"dtype": model_args.dtype, "attn_implementation": model_args.attn_implementation}
    peft_config = get_peft_config(model_args)
    with trainers.quiet():
        policy, reference = (AutoModelForCausalLM.from_pretrained(base.folder, **how) for _ in range(2))
        value, reward_model = (
            AutoModelForSequenceClassification.from_pretrained(reward.folder, num_labels=1, **how)
            for _ in range(2)
        )
    trainer = PPOTrainer(
        args=args,
        processing_class=tokenizer,
        model=training.fit(policy, tokenizer),
        ref_model=None if peft_config else training.fit(reference, tokenizer),
        reward_model=reward_model,
        value_model=value,
        train_dataset=trainers.prompt_ids(rows, tokenizer),
        eval_dataset=trainers.prompt_ids(rows.head(args.per_device_eval_batch_size), tokenizer),
        peft_config=peft_config,
        callbacks=[trainers.stop_on_kl(inputs.max_kl)],
    )
    sampling = {"max_new_tokens": args.response_length, "temperature": args.temperature, "seed": args.seed}
    talks = reinforced.talks(inputs, source, rows, reward, **sampling)
    unwrapped = trainer.accelerator.unwrap_model(trainer.model)
    trainer.add_callback(trainers.log_lengths(unwrapped.policy, tokenizer.eos_token_id))
    talks.write(unwrapped.policy, tokenizer)
    started = time.monotonic()
    trainer.train()
    speed = trainers.speed(trainer, started, args.total_episodes)
    talks.write(unwrapped.policy, tokenizer)
    folder = trainers.save(trainer, unwrapped.policy, tokenizer, run.work / "final")
    if run.main:
        reinforced.publish(
            run, folder, trainer, source, fits, rows, talks, judge, findings=findings, speed=speed
        )


if __name__ == "__main__":
    training.run(main)

"""RLSF without a value model: TRL's RLOO, with the reward and the KL of `ppo.py`.

    python recipes/rloo.py --config recipes/tiny.yaml --dataset demonstrations@0.1.0 --artifact rloo@0.1.0 \\
        --model_name_or_path sft@0.1.0 --reward_model rm@0.1.0

REINFORCE whose baseline is the other replies to the same prompt. TRL maintains it: it resumes from a
checkpoint, generates with vLLM (`--use_vllm true`), clips rewards (`--reward_clip_range`) and allows the
reward model its own tokenizer. Use it unless you want to repeat the paper, which has PPO.

Deviations from the paper: RLOO for PPO. The KL coefficient is TRL's `beta`. RLOO passes text, so the reward
model reads a reply that was cut at `max_completion_length` as if it had ended there, with EOS;
`--mask_truncated_completions true` leaves such replies out of the loss.
"""

if __name__ == "__main__":  # a signal during the imports below ends in a line, too
    from almost_data.cli import ending

    ending.watch()

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, set_seed
from trl import ModelConfig, RLOOConfig, RLOOTrainer, TrlParser, get_peft_config

from almost_data import training
from almost_data.cli import recipe
from almost_data.training import reinforced, trainers


def main(argv: list[str] | None = None) -> None:
    parser = TrlParser((training.PolicyInputs, RLOOConfig, ModelConfig))
    inputs, args, model_args = training.parse(parser, "rloo", argv)
    setup = reinforced.set_up(inputs, args, model_args, shares_tokens=False)
    recipe.require(setup.checks)
    tokenizer, reward = setup.tokenizer, setup.reward
    run = training.begin("rloo", inputs, args, model_args, setup.source, setup.models, tokenizer)
    if inputs.dry_run or recipe.is_done(run):
        return

    set_seed(args.seed)
    policy = trainers.load(AutoModelForCausalLM, setup.base.folder, model_args)
    reward_model = trainers.load(AutoModelForSequenceClassification, reward.folder, model_args, num_labels=1)
    reward_model.config.name_or_path = reward.model.id  # TRL logs the reward under that name
    # For the reference, which TRL loads itself.
    args.model_init_kwargs = {
        "dtype": model_args.dtype,
        "attn_implementation": model_args.attn_implementation,
    }
    trainer = RLOOTrainer(
        model=training.fit(policy, tokenizer),
        reward_funcs=reward_model,
        args=args,
        train_dataset=trainers.dataset(setup.rows, "prompt"),
        processing_class=tokenizer,
        reward_processing_classes=setup.reward_tokenizer,
        peft_config=get_peft_config(model_args),
        callbacks=[trainers.stop_on_kl(inputs.max_kl)],
    )
    replies = setup.replies(args.seed, args.max_completion_length, args.temperature)
    network = trainer.accelerator.unwrap_model(trainer.model)
    replies.generate(network, tokenizer)
    speed = trainers.train(trainer, len(setup.rows), run.checkpoint)
    replies.generate(network, tokenizer)
    folder = trainers.save(trainer, trainer.model, tokenizer, run.final)
    if training.is_main_process():
        recipe.show_model(run, reinforced.publish(run, folder, trainer, setup, replies, speed))


if __name__ == "__main__":
    recipe.run(main)

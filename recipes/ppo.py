"""RLSF: the paper's reinforcement learning from synthetic feedback, with TRL's PPO (paper 2.3).

    python recipes/ppo.py --config recipes/tiny.yaml --dataset demonstrations@0.1.0 --artifact ppo@0.1.0 \\
        --model_name_or_path sft@0.1.0 --reward_model rm@0.1.0

It maximises r(x, y) - kl_coef * log(policy(y|x) / sft(y|x)). Prompts are the first user turns of the
dataset's train split; queries and comparisons have them too. Policy and reference start from SFT, the value
model from the reward model.

Deviations from the paper: its values for PPO were not published, so `almost.yaml` has TRL's defaults, except
for the batch and `response_length`, `stop_token` (EOS, so that a reply ends where the policy ends it) and
`missing_eos_penalty` (so that it learns to).

TRL 1.12 is the last one with PPO, which is experimental there, and needs transformers 5.18: install
`almost_data[ppo]` in an environment of its own, or lay the two over this one, as `make almost-tiny` does. Its
PPO cannot resume from a checkpoint (an interrupted run starts again), stop at a callback's request (ours
raises on a runaway KL), or clip or normalise rewards (`whiten_rewards` is closest). `rloo.py` can, with
today's TRL: use this recipe to repeat the paper, or for a value model.
"""

if __name__ == "__main__":  # a signal during the imports below ends in a line, too
    from almost_data.cli import ending

    ending.watch()

import os

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, set_seed
from trl import ModelConfig, TrlParser, get_peft_config

from almost_data import training
from almost_data.cli import recipe
from almost_data.cli.ending import end
from almost_data.training import reinforced, trainers

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # the head of this file says it
try:
    from trl.experimental.ppo import PPOConfig, PPOTrainer
except ModuleNotFoundError:
    end(2, reinforced.NO_PPO)


def main(argv: list[str] | None = None) -> None:
    parser = TrlParser((training.PolicyInputs, PPOConfig, ModelConfig))
    inputs, args, model_args = training.parse(parser, "ppo", argv)
    if args.stop_token is None and args.stop_token_id is None:
        args.stop_token = "eos"
    if training.processes() > 1:
        args.save_strategy = "no"  # TRL cannot write a checkpoint of PPO then
    args.num_sample_generations = 0  # the card has samples; TRL's would count in the replies' length
    setup = reinforced.set_up(inputs, args, model_args, shares_tokens=True)
    reinforced.check_ppo(setup.checks, setup.rows, args, model_args)
    recipe.require(setup.checks)
    tokenizer, rows = setup.tokenizer, setup.rows
    run = training.begin(
        "ppo", inputs, args, model_args, setup.source, setup.models, tokenizer, resumes=False
    )
    if inputs.dry_run or recipe.is_done(run):
        return

    set_seed(args.seed)
    peft_config = get_peft_config(model_args)
    policy, reference = (trainers.load(AutoModelForCausalLM, setup.base.folder, model_args) for _ in range(2))
    value, reward_model = (
        trainers.load(AutoModelForSequenceClassification, setup.reward.folder, model_args, num_labels=1)
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
    replies = setup.replies(args.seed, args.response_length, args.temperature)
    network = trainer.accelerator.unwrap_model(trainer.model).policy
    trainer.add_callback(trainers.log_lengths(network, tokenizer.eos_token_id))
    replies.generate(network, tokenizer)
    speed = trainers.train(trainer, args.total_episodes)
    replies.generate(network, tokenizer)
    folder = trainers.save(trainer, network, tokenizer, run.final)
    if training.is_main_process():
        recipe.show_model(run, reinforced.publish(run, folder, trainer, setup, replies, speed))


if __name__ == "__main__":
    recipe.run(main)

set -eu
: "${MODEL:?a folder or a Hub id}"
if [ -d "$MODEL" ]; then MODEL=$(CDPATH= cd -- "$MODEL" && pwd); fi
: "${REWARD_MODEL:?a folder or a Hub id}"
if [ -d "$REWARD_MODEL" ]; then REWARD_MODEL=$(CDPATH= cd -- "$REWARD_MODEL" && pwd); fi
cd "$(dirname "$0")"
# Set for your model and machine, as arguments of this script:
#   trainer.nnodes and trainer.n_gpus_per_node
#   data.train_batch_size and actor_rollout_ref.actor.ppo_mini_batch_size
#   actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu
#   critic.ppo_micro_batch_size_per_gpu
#   actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu
#   actor_rollout_ref.rollout.tensor_model_parallel_size, and that of reward.reward_model
#   data.max_prompt_length and data.max_response_length
python3 -m verl.trainer.main_ppo algorithm.adv_estimator=gae \
   data.train_files=train.parquet data.val_files=test.parquet data.prompt_key=prompt \
   actor_rollout_ref.model.path="$MODEL" critic.model.path="$REWARD_MODEL" \
   reward.reward_model.enable=True reward.reward_model.model_path="$REWARD_MODEL" \
   actor_rollout_ref.rollout.name=vllm reward.reward_model.rollout.name=vllm \
   "$@"

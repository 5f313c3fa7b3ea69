set -eu
: "${MODEL:?a folder or a Hub id}"
if [ -d "$MODEL" ]; then MODEL=$(CDPATH= cd -- "$MODEL" && pwd); fi
: "${REWARD_MODEL:?a folder or a Hub id}"
if [ -d "$REWARD_MODEL" ]; then REWARD_MODEL=$(CDPATH= cd -- "$REWARD_MODEL" && pwd); fi
cd "$(dirname "$0")"
# Set for your model and machine, as arguments of this script:
#   --vllm.num_engines and --vllm.tensor_parallel_size
#   --actor.num_nodes and --actor.num_gpus_per_node, and those of ref, critic and reward
#   --train.colocate_all where all of them share the GPUs
#   --train.batch_size and --train.micro_batch_size (of a GPU), --data.max_len, --rollout.batch_size
python3 -m openrlhf.cli.train_ppo_ray --actor.model_name_or_path "$MODEL" \
   --reward.model_name_or_path "$REWARD_MODEL" --critic.model_name_or_path "$REWARD_MODEL" \
   --ds.value_head_prefix score --data.prompt_dataset train.jsonl --data.input_key prompt \
   --data.apply_chat_template \
   --ds.param_dtype bf16 --ds.zero_stage 3 \
   --ckpt.output_dir ppo \
   "$@"

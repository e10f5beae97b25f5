"""What becomes of each argument that the runs inherit from transformers' TrainingArguments: it works, or it is refused by
name, with what to use instead.

A new version of transformers that adds one fails a test until somebody enters it here.
"""

WORKING = {
    "length of a run": ("num_train_epochs", "max_steps"),
    "batches": ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    "optimizer": (
        *("optim", "optim_args", "learning_rate", "weight_decay", "max_grad_norm"),
        *("adam_beta1", "adam_beta2", "adam_epsilon"),
    ),
    "learning rate schedule": ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"),
    "validation": (
        *("eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "eval_accumulation_steps"),
        *("load_best_model_at_end", "metric_for_best_model", "greater_is_better"),
    ),
    "checkpoints": (
        *("output_dir", "resume_from_checkpoint", "ignore_data_skip"),
        *("save_strategy", "save_steps", "save_total_limit", "save_only_model", "save_on_each_node"),
    ),
    "logs": (
        *("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"),
        *("log_level", "log_level_replica", "log_on_each_node", "disable_tqdm"),
    ),
    "trackers": (
        *("report_to", "run_name", "project"),
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
    ),
    "the Hub": ("push_to_hub", "hub_model_id", "hub_private_repo"),
    "seeds": ("seed", "data_seed", "full_determinism"),
    "reading the faces": (
        *("dataloader_num_workers", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
        *("dataloader_multiprocessing_context", "dataloader_pin_memory", "dataloader_in_order", "dataloader_drop_last"),
        *("remove_unused_columns", "train_sampling_strategy"),
    ),
    "precision, speed and memory": (
        *("use_cpu", "bf16", "fp16", "tf32", "torch_empty_cache_steps"),
        *("torch_compile", "torch_compile_backend", "torch_compile_mode"),
        *("activation_checkpointing", "activation_checkpointing_kwargs"),
    ),
    "several processes": (
        *("accelerator_config", "ddp_backend", "ddp_timeout", "ddp_find_unused_parameters", "ddp_static_graph"),
        *("ddp_bucket_cap_mb", "ddp_broadcast_buffers"),
    ),
    "finding mistakes": ("debug", "skip_memory_metrics"),
}

LOGIN = "log in with `hf auth login` or set HF_TOKEN"
PUSH = "the finished run is pushed once, as one commit"
LANGUAGE = "it is made for language models"
TENSORS = "the outputs of all processes are joined into tensors, as the scores need them"

REFUSED = {
    # The Hub
    "hub_token": f"a recipe and a command are published with the model. Leave it out, and {LOGIN}",
    "hub_revision": f"{PUSH}, to main. For another branch use scripts.push_to_hub --revision after training",
    "hub_strategy": f"{PUSH}: checkpoints have neither code nor card. Keep them with save_total_limit",
    "hub_always_push": f"{PUSH}, and waited for. Leave it out",
    # What a script does
    "do_train": "this command always trains. To measure a trained model use scripts.evaluate_model",
    "do_eval": "use eval_strategy for validation during training, report for the scores on the test split",
    "do_predict": "use report for the scores on the test split, scripts.predict for other pictures",
    # Losses and labels
    "label_smoothing_factor": "use gender_label_smoothing; the width of the age labels is age_sigma_years",
    "label_names": "the labels are age_labels and gender_labels, in all models. Leave it out",
    "average_tokens_across_devices": f"{LANGUAGE}. Each process has as many faces in a batch. Leave it out",
    "include_num_input_tokens_seen": f"{LANGUAGE}. The run's record counts the faces",
    "length_column_name": f"{LANGUAGE}: all faces have the same size. Leave it out",
    # Validation
    "prediction_loss_only": "the scores need the predictions. To judge by the loss use metric_for_best_model: loss; for "
    "less memory on the GPU eval_accumulation_steps",
    "bf16_full_eval": "it would round the weights that are published. Use bf16: true, which validates in mixed precision",
    "fp16_full_eval": "it would round the weights that are published. Use fp16: true, which validates in mixed precision",
    "eval_do_concat_batches": f"{TENSORS}. Leave it out",
    "eval_use_gather_object": f"{TENSORS}. Leave it out",
    "batch_eval_metrics": "intervals, AUC and F1 need all predictions at once. For less memory use "
    "eval_accumulation_steps, or a smaller per_device_eval_batch_size",
    "include_for_metrics": "no score reads more than predictions and labels. Leave it out",
    # A resumed run must be the same run
    "auto_find_batch_size": "the global batch, and with it the result, would depend on what else is in the memory. Use a "
    "smaller per_device_train_batch_size, and gradient_accumulation_steps to keep the product",
    "enable_jit_checkpoint": "after SIGTERM the half-trained model would be published as if it were finished. Use a small "
    "save_steps, and resume_from_checkpoint: true in the next start",
    "restore_callback_states_from_checkpoint": "every callback restores its state. Leave it out",
    # Parallelism
    "fsdp": "choose it when launching: accelerate launch --config_file trainer/accelerate/fsdp.yaml -m trainer.train",
    "fsdp_config": "it is in trainer/accelerate/fsdp.yaml, for accelerate launch --config_file",
    "deepspeed": "use FSDP: accelerate launch --config_file trainer/accelerate/fsdp.yaml -m trainer.train",
    "parallelism_config": "use data parallelism or FSDP: accelerate launch with a file of trainer/accelerate",
    "local_rank": "start several processes with accelerate launch or torchrun, which pass it in the environment",
    # Language models, and names of the past
    "optim_target_modules": "it belongs to GaLore and APOLLO, which are made for the wide layers of language "
    "models. Leave it out; muon: true is the other optimizer",
    "use_liger_kernel": f"{LANGUAGE}. Use torch_compile",
    "liger_kernel_config": f"{LANGUAGE}. Use torch_compile",
    "use_cache": f"{LANGUAGE}. Leave it out",
    "neftune_noise_alpha": f"{LANGUAGE}. Use the augmentation: color, blur, erasing and others",
    "gradient_checkpointing": "use activation_checkpointing, as transformers calls it now",
    "gradient_checkpointing_kwargs": "use activation_checkpointing_kwargs, as transformers calls it now",
}

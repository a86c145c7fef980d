//! The fields of a request that go to no upstream unless its operator says so: they take it elsewhere
//! than to the model that was checked, or to another bound. In lower case, since readers may take no
//! notice of case; a `*` stands for any end.

/// What `refuse_fields` is where an upstream does not say.
pub(super) const DEFAULT: [&str; 38] = [
    // Models that are tried when the first one fails, which a request can arrange. OpenRouter:
    "models",
    "route",
    "preset",
    // … and who serves the model, each at a price of its own:
    "provider",
    // … and what is charged by use:
    "plugins",
    // LiteLLM:
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "default_fallbacks",
    "context_window_fallback_dict",
    "model_list",
    "model_group",
    "prompt_id",
    "router_settings_override",
    // Where LiteLLM sends it, and with which credentials:
    "api_base",
    "base_url",
    "api_key",
    "api_version",
    "organization",
    "custom_llm_provider",
    "user_config",
    "litellm_*",
    "deployment_id",
    "aws_*",
    "azure_*",
    "vertex_*",
    "watsonx_*",
    "proxy_server_request",
    // Answers that are made up, and what LiteLLM books for them:
    "mock_*",
    "input_cost_per_*",
    "output_cost_per_*",
    // What is laid over the request, model and bounds included:
    "extra_body",
    "extra_headers",
    "extra_query",
    "generation_config",
    "generationconfig",
    "sampling_params",
    // Where vLLM fetches its cache from:
    "kv_transfer_params",
];

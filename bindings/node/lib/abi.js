// Generated from the C header and the table of options: do not edit. `MONGOSTREAM_WRITE=1 cargo
// test --workspace --test generated` writes it anew.
"use strict";

exports.version = [0, 1, 0];

exports.Status = {
  OK: 0,
  TIMEOUT: 1,
  CLOSED: 2,
  ERR_ARGUMENT: -1,
  ERR_STATE: -2,
  ERR_FORKED: -3,
  ERR_IN_USE: -4,
  ERR_RESOURCE: -5,
  ERR_CONNECT: -10,
  ERR_AUTH: -11,
  ERR_SERVER: -12,
  ERR_HISTORY_LOST: -13,
  ERR_INVALIDATED: -14,
  ERR_CHECKPOINT: -15,
  ERR_OVERSIZED: -16,
  ERR_FENCED: -17,
  ERR_PANIC: -99,
};

exports.LogLevel = {
  OFF: 0,
  ERROR: 1,
  WARN: 2,
  INFO: 3,
  DEBUG: 4,
};

exports.WorkerState = {
  STARTING: 0,
  STREAMING: 1,
  RECONNECTING: 2,
  STOPPED: 3,
  FAILED: 4,
  STANDBY: 5,
};

// Types of functions that C calls.
exports.callbacks = [
  "void LogSetCallback(void *user_data, int32_t level, const char *worker, const char *message)",
  "int32_t OptionsSetCheckpointStoreLoad(void *user_data, const char *name, _Out_ void **text)",
  "int32_t OptionsSetCheckpointStoreSave(void *user_data, const char *name, const char *text)",
  "void OptionsSetCheckpointStoreRelease(void *user_data)",
];

exports.functions = [
  "uint32_t ms_version_number(void)",
  "const char *ms_version(void)",
  "const char *ms_status_name(int32_t status)",
  "int32_t ms_error_status(void *error)",
  "const char *ms_error_message(void *error)",
  "int32_t ms_error_server_code(void *error)",
  "bool ms_error_is_retriable(void *error)",
  "const char *ms_error_worker(void *error)",
  "void ms_error_free(void *error)",
  "int32_t ms_log_set(LogSetCallback *callback, void *user_data, int32_t max_level)",
  "void *ms_options_new(void)",
  "int32_t ms_options_set(void *options, const char *name, const char *value, _Out_ void **error)",
  "void *ms_options_clone(void *options)",
  "void *ms_options_describe(void)",
  "void ms_options_free(void *options)",
  "int32_t ms_options_set_checkpoint_store(void *options, OptionsSetCheckpointStoreLoad *load, OptionsSetCheckpointStoreSave *save, OptionsSetCheckpointStoreRelease *release, void *user_data, _Out_ void **error)",
  "void *ms_buffer_new(size_t capacity)",
  "void *ms_buffer_new_with(size_t capacity, size_t max_bytes)",
  "void ms_shutdown(void)",
  "void *ms_buffer_recv(void *buffer, _Out_ void **error)",
  "void ms_string_free(void *text)",
  "int32_t ms_buffer_recv_message(void *buffer, int64_t timeout_ms, _Out_ void **message, _Out_ void **error)",
  "int32_t ms_buffer_recv_batch(void *buffer, size_t max, int64_t timeout_ms, _Out_ void **batch, _Out_ void **error)",
  "int ms_buffer_fd(void *buffer)",
  "size_t ms_buffer_len(void *buffer)",
  "void *ms_buffer_stats(void *buffer)",
  "void *ms_buffer_metrics(void *buffer)",
  "void ms_buffer_close(void *buffer)",
  "void ms_buffer_free(void *buffer)",
  "void *ms_worker_start(const char *uri, const char *database, const char *collection, void *buffer, void *options, _Out_ void **error)",
  "const char *ms_worker_name(void *worker)",
  "int32_t ms_worker_get_state(void *worker)",
  "int32_t ms_worker_wait_ready(void *worker, int64_t timeout_ms, _Out_ void **error)",
  "void ms_worker_stop(void *worker)",
  "int32_t ms_worker_join(void *worker, int64_t timeout_ms, _Out_ void **error)",
  "void *ms_worker_resume_token(void *worker)",
  "void ms_worker_free(void *worker)",
  "void *ms_message_json(void *message, _Out_ size_t *length)",
  "void *ms_message_bson(void *message, _Out_ size_t *length)",
  "const char *ms_message_operation(void *message)",
  "const char *ms_message_namespace(void *message)",
  "const char *ms_message_document_id(void *message)",
  "bool ms_message_cluster_time(void *message, _Out_ uint32_t *seconds, _Out_ uint32_t *increment)",
  "void *ms_message_updated_paths(void *message, _Out_ size_t *length)",
  "const char *ms_message_resume_token(void *message)",
  "const char *ms_message_position(void *message)",
  "const char *ms_message_worker(void *message)",
  "void *ms_message_clone(void *message)",
  "void ms_message_ack(void *message)",
  "void ms_message_free(void *message)",
  "size_t ms_batch_len(void *batch)",
  "void *ms_batch_get(void *batch, size_t index)",
  "void *ms_batch_json_lines(void *batch, _Out_ size_t *length)",
  "void ms_batch_ack(void *batch)",
  "void ms_batch_free(void *batch)",
];

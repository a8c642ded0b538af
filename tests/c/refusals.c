/* Everything that a caller can do wrong with a library, apart from wild pointers: each is a status and a message.

   Prints one line for each mistake that is not answered as it should be, and ends with 1 if there is any. */

#include <stdio.h>
#include <string.h>

#include "digits.h"

static int failures = 0;

/* `call` must give `status`, and a message with `words` if it is a failure. */
#define GIVES(call, status, words) gives(__LINE__, #call, (call), (status), (words))

static void gives(int line, const char* call, int found, int status, const char* words) {
  const char* message = found == DIGITS_OK ? "" : digits_last_error();
  if (found != status || (words != NULL && strstr(message, words) == NULL)) {
    printf("line %d: %s gives %d (%s), expected %d (%s)\n", line, call, found, message, status,
           words != NULL ? words : "");
    failures++;
  }
}

#define HOLDS(condition) holds(__LINE__, #condition, (condition))

static void holds(int line, const char* condition, int value) {
  if (!value) {
    printf("line %d: %s does not hold\n", line, condition);
    failures++;
  }
}

int main(void) {
  enum { OK = DIGITS_OK, ARGUMENT = DIGITS_ERROR_ARGUMENT, RUN = DIGITS_ERROR_RUN };
  digits_model* model = NULL;
  digits_session* session = NULL;

  GIVES(digits_model_open(NULL, NULL), ARGUMENT, "null");
  GIVES(digits_model_open("/nonexistent", &model), OK, NULL);
  if (model == NULL) return 1;

  /* What is there. */
  HOLDS(digits_abi_version() == DIGITS_ABI_VERSION);
  HOLDS(digits_entry_count(model) == 1);
  HOLDS(strcmp(digits_entry_name(model, 0), "main") == 0);
  HOLDS(digits_input_count(model, 0) == 1 && digits_output_count(model, 0) == 1);
  HOLDS(digits_input_rank(model, 0, 0) == 4 && digits_output_rank(model, 0, 0) == 2);
  HOLDS(digits_input_dtype(model, 0, 0) == DIGITS_F32 && digits_output_dtype(model, 0, 0) == DIGITS_F32);
  HOLDS(digits_output_is_dynamic(model, 0, 0) == 0 && digits_output_is_dynamic(model, 0, 1) == 0);
  HOLDS(digits_input_name(model, 0, 0)[0] != '\0' && digits_output_name(model, 0, 0)[0] != '\0');

  /* What is not. */
  HOLDS(digits_entry_name(model, 1) == NULL && strstr(digits_last_error(), "entry 1") != NULL);
  HOLDS(digits_input_name(model, 0, 1) == NULL && digits_output_name(model, 0, 9) == NULL);
  HOLDS(digits_input_name(model, 7, 0) == NULL && digits_input_count(model, 7) == 0);
  HOLDS(digits_input_dtype(model, 0, 1) == 0 && digits_output_dtype(model, 1, 0) == 0);
  HOLDS(digits_entry_count(NULL) == 0 && digits_entry_name(NULL, 0) == NULL);
  HOLDS(digits_input_rank(NULL, 0, 0) == 0 && digits_output_rank(model, 0, 5) == 0);
  GIVES(digits_session_new(model, 1, 1, &session), ARGUMENT, "entry 1");
  HOLDS(session == NULL);
  GIVES(digits_session_new(NULL, 0, 1, &session), ARGUMENT, "null");
  GIVES(digits_session_new(model, 0, 1, NULL), ARGUMENT, "null");
  GIVES(digits_session_new(model, 0, -1, &session), ARGUMENT, NULL);
  GIVES(digits_session_new(model, 0, 1 << 20, &session), ARGUMENT, NULL);
  GIVES(digits_session_new(model, 0, 1, &session), OK, NULL);
  if (session == NULL) return 1;

  static float images[2 * 64 + 1], answers[2 * 10 + 1];
  const int64_t dims[4] = {2, 1, 8, 8};
  int64_t shape[2] = {-1, -1};
  size_t rank = 0;

  /* Before anything is set. */
  GIVES(digits_session_run(session), RUN, "not given");
  GIVES(digits_session_bind(session), RUN, "not given");
  GIVES(digits_session_output_shape(session, 0, 2, &rank, shape), RUN, "not bound");

  /* Inputs. */
  GIVES(digits_session_set_input(NULL, 0, DIGITS_F32, 4, dims, images), ARGUMENT, "null");
  GIVES(digits_session_set_input(session, 1, DIGITS_F32, 4, dims, images), ARGUMENT, "input 1");
  GIVES(digits_session_set_input(session, 0, DIGITS_F64, 4, dims, images), RUN, "f32");
  GIVES(digits_session_set_input(session, 0, 99, 4, dims, images), ARGUMENT, "99");
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, 3, dims, images), RUN, "rank 3, expected 4");
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, 4, NULL, images), ARGUMENT, "null");
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, (size_t)-1, dims, images), RUN, "rank");

  const int64_t wide[4] = {2, 1, 8, 9}, negative[4] = {-2, 1, 8, 8};
  const int64_t huge[4] = {INT64_MAX, 1, 8, 8};
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, 4, wide, images), OK, NULL);
  GIVES(digits_session_bind(session), RUN, "axis 3 is 9, expected 8");
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, 4, negative, images), OK, NULL);
  GIVES(digits_session_bind(session), RUN, "-2");
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, 4, huge, images), OK, NULL);
  GIVES(digits_session_bind(session), RUN, NULL);

  /* Outputs. */
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, 4, dims, images), OK, NULL);
  GIVES(digits_session_bind(session), OK, NULL);
  GIVES(digits_session_output_shape(session, 0, 2, &rank, shape), OK, NULL);
  HOLDS(rank == 2 && shape[0] == 2 && shape[1] == 10);
  GIVES(digits_session_output_shape(session, 0, 1, &rank, shape), ARGUMENT, NULL);
  GIVES(digits_session_output_shape(session, 0, 2, NULL, shape), ARGUMENT, "null");
  GIVES(digits_session_output_shape(session, 0, 2, &rank, NULL), ARGUMENT, "null");
  GIVES(digits_session_output_shape(session, 1, 2, &rank, shape), ARGUMENT, "output 1");
  GIVES(digits_session_run(session), RUN, "not given");
  GIVES(digits_session_set_output(session, 3, answers, 80), ARGUMENT, "output 3");
  GIVES(digits_session_set_output(NULL, 0, answers, 80), ARGUMENT, "null");
  GIVES(digits_session_set_output(session, 0, answers, 79), OK, NULL);
  GIVES(digits_session_run(session), RUN, "79 bytes given, 80 expected");
  GIVES(digits_session_set_output(session, 0, NULL, 80), OK, NULL);
  GIVES(digits_session_run(session), RUN, "null");

  /* Null data where there are elements, and data between elements. */
  GIVES(digits_session_set_output(session, 0, answers, 80), OK, NULL);
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, 4, dims, NULL), OK, NULL);
  GIVES(digits_session_run(session), RUN, "null");
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, 4, dims, (const char*)images + 1), OK, NULL);
  GIVES(digits_session_run(session), RUN, "aligned");

  /* After all of that it works, also without the handle of the model, and on no images at all. */
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, 4, dims, images), OK, NULL);
  digits_model_close(model);
  answers[20] = 7.0f;
  GIVES(digits_session_run(session), OK, NULL);
  float sum = 0.0f;
  for (int i = 0; i < 10; i++) sum += answers[i];
  HOLDS(sum > 0.999f && sum < 1.001f);
  HOLDS(memcmp(answers, answers + 10, 10 * sizeof(float)) == 0);
  HOLDS(answers[20] == 7.0f);
  const void* data = answers;
  size_t bytes = 80;
  GIVES(digits_session_output_data(session, 0, &data, &bytes), RUN, "no copy");
  HOLDS(data == NULL && bytes == 0);
  GIVES(digits_session_output_data(session, 0, NULL, &bytes), ARGUMENT, "null");
  const int64_t none[4] = {0, 1, 8, 8};
  GIVES(digits_session_set_input(session, 0, DIGITS_F32, 4, none, NULL), OK, NULL);
  GIVES(digits_session_set_output(session, 0, NULL, 0), OK, NULL);
  GIVES(digits_session_run(session), OK, NULL);
  GIVES(digits_session_reset_state(session), OK, NULL);
  GIVES(digits_session_reset_state(NULL), ARGUMENT, "null");

  digits_session_free(session);
  digits_session_free(NULL);
  digits_model_close(NULL);
  return failures == 0 ? 0 : 1;
}

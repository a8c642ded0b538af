/* A model with several entries and with state that is kept between calls, beside another model in one program.

   egraft compile tests/c/counter.prog --emit lib -o libcounter.so
   egraft compile models/zoo/digits.onnx --emit lib -o libdigits.so
   cc -std=c11 -I. tests/c/counter.c -o counter -L. -lcounter -ldigits -lpthread -Wl,-rpath,.

   Prints what the entries give, one line for each run. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "counter.h"
#include "digits.h"

static void check(int status) {
  if (status != COUNTER_OK) {
    fprintf(stderr, "status %d: %s\n", status, counter_last_error());
    exit(1);
  }
}

/* The number of the entry that is called `name`. */
static size_t find(const counter_model* model, const char* name) {
  for (size_t entry = 0; entry < counter_entry_count(model); entry++) {
    if (strcmp(counter_entry_name(model, entry), name) == 0) return entry;
  }
  fprintf(stderr, "there is no entry %s\n", name);
  exit(1);
}

static void print(const char* what, const float* values, int count) {
  printf("%s", what);
  for (int i = 0; i < count; i++) printf(" %g", (double)values[i]);
  printf("\n");
}

int main(void) {
  counter_model* model = NULL;
  check(counter_model_open(NULL, &model));
  digits_model* other = NULL;
  if (digits_model_open(NULL, &other) != DIGITS_OK) return 1;
  printf("%zu entries, and %zu of the other model\n", counter_entry_count(model), digits_entry_count(other));
  digits_model_close(other);

  const float rows[8] = {1, 1, 1, 1, 0, 1, 0, 10};
  const int64_t two_rows[2] = {2, 4}, row[1] = {4};
  float result[8];

  counter_session* scale = NULL;
  check(counter_session_new(model, find(model, "scale"), 1, &scale));
  check(counter_session_set_input(scale, 0, COUNTER_F32, 2, two_rows, rows));
  check(counter_session_set_output(scale, 0, result, sizeof result));
  check(counter_session_run(scale));
  print("scale:", result, 8);
  counter_session_free(scale);

  /* Each session keeps a state of its own. */
  counter_session* sums[2] = {NULL, NULL};
  float totals[2][4];
  for (int i = 0; i < 2; i++) {
    check(counter_session_new(model, find(model, "sum"), 1, &sums[i]));
    check(counter_session_set_input(sums[i], 0, COUNTER_F32, 1, row, rows + 4 * i));
    check(counter_session_set_output(sums[i], 0, totals[i], sizeof totals[i]));
  }
  counter_model_close(model);
  for (int round = 0; round < 3; round++) {
    check(counter_session_run(sums[0]));
    if (round != 1) check(counter_session_run(sums[1]));
  }
  print("three runs:", totals[0], 4);
  print("two runs:", totals[1], 4);
  check(counter_session_reset_state(sums[0]));
  check(counter_session_run(sums[0]));
  print("after a reset:", totals[0], 4);
  for (int i = 0; i < 2; i++) counter_session_free(sums[i]);
  return 0;
}

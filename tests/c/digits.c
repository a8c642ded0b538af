/* Using a compiled model from C: handwritten digits, read by two threads at once.

   egraft compile models/zoo/digits.onnx --emit lib -o libdigits.so
   cc -std=c11 -I. tests/c/digits.c -o digits -L. -ldigits -lpthread -Wl,-rpath,.
   ./digits IMAGES

   IMAGES holds, in the machine's byte order: a 32-bit count n, n images of 8x8 floats, and for each of them ten
   floats, which the model must answer. One thread runs all images as one batch, the other runs one at a time;
   each has a session of its own. Prints the class of each image. */

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

enum { PIXELS = 64, CLASSES = 10, ROUNDS = 50 };

struct task {
  digits_model* model;
  int32_t count;         /* images in all */
  int32_t batch;         /* images in one run */
  const float* images;   /* count x PIXELS */
  const float* expected; /* count x CLASSES */
  float* answers;        /* count x CLASSES: results of the last round */
  char problem[256];     /* empty if all went well */
};

/* Runs the batch that starts at image `first`. Returns a status. */
static int run_batch(struct task* task, digits_session* session, int32_t first) {
  const int64_t dims[4] = {task->batch, 1, 8, 8};
  const float* images = task->images + (size_t)first * PIXELS;
  float* answers = task->answers + (size_t)first * CLASSES;

  /* Buffers are ours: the session reads and writes them in place. */
  int status = digits_session_set_input(session, 0, DIGITS_F32, 4, dims, images);
  if (status == DIGITS_OK) {
    const size_t bytes = (size_t)task->batch * CLASSES * sizeof(float);
    status = digits_session_set_output(session, 0, answers, bytes);
  }
  /* The first run binds the sizes; later ones with the same sizes allocate nothing. */
  return status == DIGITS_OK ? digits_session_run(session) : status;
}

/* What each thread does. */
static void* run(void* argument) {
  struct task* task = argument;
  digits_session* session = NULL;
  int status = digits_session_new(task->model, 0, 2, &session);

  for (int round = 0; round < ROUNDS && status == DIGITS_OK; round++) {
    for (int32_t i = 0; i < task->count * CLASSES; i++) task->answers[i] = -1.0f;
    for (int32_t first = 0; first < task->count && status == DIGITS_OK; first += task->batch) {
      status = run_batch(task, session, first);
    }
    for (int32_t i = 0; i < task->count * CLASSES && status == DIGITS_OK; i++) {
      if (!(fabsf(task->answers[i] - task->expected[i]) <= 1e-4f)) {
        snprintf(task->problem, sizeof task->problem, "batch %" PRId32 ": answer %" PRId32 " is %g, not %g",
                 task->batch, i, (double)task->answers[i], (double)task->expected[i]);
        digits_session_free(session);
        return NULL;
      }
    }
  }
  if (status != DIGITS_OK) {
    /* The message belongs to the thread whose call failed. */
    snprintf(task->problem, sizeof task->problem, "status %d: %s", status, digits_last_error());
  }
  digits_session_free(session);
  return NULL;
}

static void* allocate(size_t count, size_t size) {
  void* memory = calloc(count, size);
  if (memory == NULL) {
    fprintf(stderr, "out of memory\n");
    exit(1);
  }
  return memory;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s IMAGES\n", argv[0]);
    return 2;
  }
  FILE* file = fopen(argv[1], "rb");
  int32_t count = 0;
  if (file == NULL || fread(&count, sizeof count, 1, file) != 1 || count < 1 || count > 1000000) {
    fprintf(stderr, "%s holds no images\n", argv[1]);
    return 2;
  }
  const size_t n = (size_t)count;
  float* images = allocate(n * PIXELS, sizeof(float));
  float* expected = allocate(n * CLASSES, sizeof(float));
  if (fread(images, sizeof(float), n * PIXELS, file) != n * PIXELS ||
      fread(expected, sizeof(float), n * CLASSES, file) != n * CLASSES) {
    fprintf(stderr, "%s is too short\n", argv[1]);
    return 2;
  }
  fclose(file);

  if (digits_abi_version() != DIGITS_ABI_VERSION) {
    fprintf(stderr, "the library is another version than the header\n");
    return 2;
  }
  digits_model* model = NULL;
  if (digits_model_open(NULL, &model) != DIGITS_OK) {
    fprintf(stderr, "%s\n", digits_last_error());
    return 2;
  }

  struct task tasks[2] = {{.batch = count}, {.batch = 1}};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    tasks[i].model = model;
    tasks[i].count = count;
    tasks[i].images = images;
    tasks[i].expected = expected;
    tasks[i].answers = allocate(n * CLASSES, sizeof(float));
    if (pthread_create(&threads[i], NULL, run, &tasks[i]) != 0) {
      fprintf(stderr, "no thread can be started\n");
      return 1;
    }
  }
  /* Sessions keep what they need of the model. */
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  digits_model_close(model);

  int failed = 0;
  for (int i = 0; i < 2; i++) {
    if (tasks[i].problem[0] != '\0') {
      fprintf(stderr, "%s\n", tasks[i].problem);
      failed = 1;
    }
  }
  for (int32_t image = 0; image < count && !failed; image++) {
    const float* answer = tasks[0].answers + (size_t)image * CLASSES;
    int best = 0;
    for (int class = 1; class < CLASSES; class++) {
      if (answer[class] > answer[best]) best = class;
    }
    printf("%" PRId32 ": %d\n", image, best);
  }
  for (int i = 0; i < 2; i++) free(tasks[i].answers);
  free(images);
  free(expected);
  return failed;
}

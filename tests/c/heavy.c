/* A library whose weights lie in a file beside it: the folder of that file is said when the model is opened.

   Opens the model with each argument as the folder; `-` stands for NULL, the working directory. Prints the first
   element of the result on an input of ones, or the message. */

#include <stdio.h>
#include <string.h>

#include "heavy.h"

static float ones[1024], result[4200];

static int run(heavy_model* model) {
  const int64_t dims[1] = {1024};
  heavy_session* session = NULL;
  int status = heavy_session_new(model, 0, 1, &session);
  if (status == HEAVY_OK) status = heavy_session_set_input(session, 0, HEAVY_F32, 1, dims, ones);
  if (status == HEAVY_OK) status = heavy_session_set_output(session, 0, result, sizeof result);
  if (status == HEAVY_OK) status = heavy_session_run(session);
  heavy_session_free(session);
  return status;
}

int main(int argc, char** argv) {
  for (int i = 0; i < 1024; i++) ones[i] = 1.0f;
  for (int i = 1; i < argc; i++) {
    heavy_model* model = NULL;
    const char* folder = strcmp(argv[i], "-") == 0 ? NULL : argv[i];
    int status = heavy_model_open(folder, &model);
    if (status == HEAVY_OK) status = run(model);
    heavy_model_close(model);
    if (status == HEAVY_OK) {
      printf("%.4f\n", (double)result[0]);
    } else {
      printf("status %d: %s\n", status, heavy_last_error());
    }
  }
  return 0;
}

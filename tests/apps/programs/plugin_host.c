// Loads a plugin, twice, while a thread runs: plugin_host PLUGIN ADDRESS PORT.
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void* Run(void* unused) {
  for (;;) usleep(100);
  return unused;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  pthread_t thread;
  pthread_create(&thread, NULL, Run, NULL);
  for (int round = 0; round < 2; ++round) {
    void* plugin = dlopen(argv[1], RTLD_NOW);
    if (plugin == NULL) {
      fprintf(stderr, "%s\n", dlerror());
      return 1;
    }
    long (*fetch)(const char*, int, char*, long) =
        (long (*)(const char*, int, char*, long))dlsym(plugin, "Fetch");
    char buffer[256];
    long got = fetch(argv[2], atoi(argv[3]), buffer, sizeof buffer);
    printf("%.8s\n", got < 8 ? "nothing" : buffer);
    dlclose(plugin);
  }
  return 0;
}

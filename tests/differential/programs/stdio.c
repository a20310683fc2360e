// Sockets under stdio: fdopen, dprintf, fgets, getline. glibc calls the kernel directly there.
#include "observe.h"

enum { kPort = 5300 };

static void Stdio(void) {
  int fd = Connected("a", kPort);
  FILE* stream = fdopen(fd, "r+");
  SeeBool("fdopen", stream != NULL);
  See("fputs", fputs("line one\n", stream) >= 0 ? 0 : -1);
  See("fprintf", fprintf(stream, "%s %d\n", "number", 42));
  See("fflush", fflush(stream));
  SeePeer("recv a 19");
  PeerMust("text a answer one\nanswer two\nrest");
  char line[64];
  SeeBool("fgets", fgets(line, sizeof line, stream) != NULL);
  Note("line: %.*s", (int)strcspn(line, "\n"), line);
  char* text = NULL;
  size_t size = 0;
  See("getline", getline(&text, &size, stream));
  Note("line: %.*s", (int)strcspn(text, "\n"), text);
  PeerMust("close a");
  SeeData("fread to the end", line, (long)fread(line, 1, sizeof line, stream));
  SeeBool("feof", feof(stream) != 0);
  SeeBool("ferror", ferror(stream) != 0);
  See("fclose", fclose(stream));
  See("closed", fcntl(fd, F_GETFD));
  free(text);
  fd = Connected("b", kPort + 1);
  See("dprintf", dprintf(fd, "formatted %05d\n", 7));
  SeePeer("recv b 16");
  FILE* reader = fdopen(dup(fd), "r");
  FILE* writer = fdopen(fd, "w");
  setvbuf(writer, NULL, _IONBF, 0);
  See("unbuffered fputc", fputc('!', writer));
  SeePeer("recv b 1");
  PeerMust("text b x");
  See("fgetc", fgetc(reader));
  fclose(writer);
  PeerMust("text b y");
  See("fgetc after the writer closed", fgetc(reader));
  fclose(reader);
  SeePeer("drain b");
}

int main(void) {
  Stdio();
  return 0;
}

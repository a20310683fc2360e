// A socket as standard input and output, as inetd and shells arrange it: the streams exist already,
// so that no call of stdio's tells that they are a socket's; and a stream made by a name that no
// hook has.
#include "observe.h"

extern FILE* _IO_fdopen(int fd, const char* mode);

enum { kPort = 5320 };

static void StandardStreams(void) {
  int saved_in = dup(0);
  int saved_out = dup(1);
  fflush(stdout);
  int fd = Connected("a", kPort);
  fflush(stdout);
  int in = dup2(fd, 0);
  int out = dup2(fd, 1);
  close(fd);
  printf("hello %d\n", 42);
  puts("second line");
  int flushed = fflush(stdout);
  dup2(saved_out, 1);
  See("dup2 to input", in);
  See("dup2 to output", out);
  See("fflush", flushed);
  SeePeer("recv a 21");
  PeerMust("text a one\ntwo\n");
  char line[64] = "";
  SeeBool("fgets", fgets(line, sizeof line, stdin) != NULL);
  Note("line: %.*s", (int)strcspn(line, "\n"), line);
  SeeBool("gets the next", scanf("%63s", line) == 1);
  Note("word: %s", line);
  PeerMust("close a");
  See("getchar", getchar());
  See("getchar at the end", getchar());
  SeeBool("feof", feof(stdin) != 0);
  dup2(saved_in, 0);
}

static void UnhookedName(void) {
  int fd = Connected("b", kPort + 1);
  FILE* stream = _IO_fdopen(fd, "r+");
  SeeBool("_IO_fdopen", stream != NULL);
  See("fprintf", fprintf(stream, "%s %d\n", "number", 7));
  See("fflush", fflush(stream));
  SeePeer("recv b 9");
  PeerMust("text b answer\n");
  char line[64] = "";
  SeeBool("fgets", fgets(line, sizeof line, stream) != NULL);
  Note("line: %.*s", (int)strcspn(line, "\n"), line);
  See("fclose", fclose(stream));
  SeePeer("drain b");
  int again = Socket(AF_INET, SOCK_STREAM);
  See("the number is reused", again == fd);
  SeeOk("and is fresh", Connect(again, PEER4, kPort + 2));
  close(again);
}

int main(void) {
  UnhookedName();
  StandardStreams();
  return 0;
}

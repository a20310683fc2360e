// Makes its system calls by no_tables.c: fetches a page, and prints whether the instruction there
// was rewritten after its first use.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>

long no_tables_call(long number, long a, long b, long c);

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const unsigned char* code = (const unsigned char*)no_tables_call;
  int site = 0;
  while (code[site] != 0x0f || code[site + 1] != 0x05) ++site;
  struct sockaddr_in server = {.sin_family = AF_INET};
  server.sin_addr.s_addr = inet_addr(argv[1]);
  server.sin_port = htons((unsigned short)atoi(argv[2]));
  char answer[512] = {0};
  const char request[] = "GET / HTTP/1.0\r\n\r\n";
  const long s = no_tables_call(SYS_socket, AF_INET, SOCK_STREAM, 0);
  if (no_tables_call(SYS_connect, s, (long)&server, sizeof server) != 0) return 1;
  if (no_tables_call(SYS_write, s, (long)request, sizeof request - 1) <= 0) return 1;
  if (no_tables_call(SYS_read, s, (long)answer, sizeof answer - 1) <= 0) return 1;
  printf("%.8s %s\n", answer, code[site] == 0x0f ? "traps" : "rewritten");
  return 0;
}

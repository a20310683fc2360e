// The resolver's functions, one a line: what each says of a name. Every one is in libc.
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <netdb.h>
#include <resolv.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static void Answer(const char* what, const unsigned char* answer, int length) {
  ns_msg message;
  if (length < 0 || ns_initparse(answer, length, &message) != 0) {
    printf("%s: none, h_errno %d\n", what, h_errno);
    return;
  }
  printf("%s: %d records, truncated %d\n", what, ns_msg_count(message, ns_s_an),
         ns_msg_getflag(message, ns_f_tc));
}

static void Host(const char* what, const struct hostent* host) {
  char text[INET6_ADDRSTRLEN];
  if (host == NULL) {
    printf("%s: none, h_errno %d\n", what, h_errno);
    return;
  }
  inet_ntop(host->h_addrtype, host->h_addr_list[0], text, sizeof text);
  printf("%s: %s %s\n", what, host->h_name, text);
}

static sigjmp_buf late;

static void Late(int signal) {
  (void)signal;
  siglongjmp(late, 1);
}

// Leaves gethostbyname by a jump, over and over, then goes on as if nothing had been. Not the first
// call: libc is not itself any more when a jump leaves it while it reads its configuration.
static int Jump(void) {
  volatile int jumped = 0;
  gethostbyname("four.test");
  signal(SIGALRM, Late);
  for (volatile int i = 0; i < 5; ++i) {
    const struct itimerval soon = {.it_value = {.tv_usec = 50000}};
    if (sigsetjmp(late, 1) == 0) {
      setitimer(ITIMER_REAL, &soon, NULL);
      gethostbyname("silent.test");
    } else {
      ++jumped;
    }
  }
  const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
  struct addrinfo* list = NULL;
  char host[64] = "";
  if (getaddrinfo("four.test", "80", &hints, &list) == 0) {
    getnameinfo(list->ai_addr, list->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
  }
  printf("jumped %d times, %s\n", jumped, host);
  return 0;
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "jump") == 0) return Jump();
  unsigned char answer[65536];
  unsigned char query[512];
  struct hostent entry;
  struct hostent* result;
  char buffer[8192];
  int error;
  struct __res_state state;
  memset(&state, 0, sizeof state);
  printf("res_init: %d\n", res_init());
  printf("res_ninit: %d\n", res_ninit(&state));
  Answer("res_query", answer, res_query("host.test", ns_c_in, ns_t_a, answer, sizeof answer));
  Answer("res_query long", answer, res_query("long.test", ns_c_in, ns_t_txt, answer, sizeof answer));
  Answer("res_query none", answer, res_query("no.test", ns_c_in, ns_t_a, answer, sizeof answer));
  Answer("res_search", answer, res_search("short", ns_c_in, ns_t_a, answer, sizeof answer));
  Answer("res_querydomain", answer,
         res_querydomain("host", "test", ns_c_in, ns_t_aaaa, answer, sizeof answer));
  int length = res_mkquery(ns_o_query, "host.test", ns_c_in, ns_t_a, NULL, 0, NULL, query, sizeof query);
  Answer("res_send", answer, res_send(query, length, answer, sizeof answer));
  Answer("res_nquery", answer, res_nquery(&state, "host.test", ns_c_in, ns_t_a, answer, sizeof answer));
  Answer("res_nsearch", answer, res_nsearch(&state, "short", ns_c_in, ns_t_a, answer, sizeof answer));
  Answer("res_nquerydomain", answer,
         res_nquerydomain(&state, "host", "test", ns_c_in, ns_t_a, answer, sizeof answer));
  Answer("res_nsend", answer, res_nsend(&state, query, length, answer, sizeof answer));
  res_nclose(&state);
  Host("gethostbyname", gethostbyname("host.test"));
  Host("gethostbyname none", gethostbyname("no.test"));
  Host("gethostbyname2", gethostbyname2("host.test", AF_INET6));
  unsigned char four[4] = {192, 0, 2, 7};
  Host("gethostbyaddr", gethostbyaddr(four, 4, AF_INET));
  gethostbyname_r("alias.test", &entry, buffer, sizeof buffer, &result, &error);
  Host("gethostbyname_r", result);
  gethostbyname2_r("host.test", AF_INET, &entry, buffer, sizeof buffer, &result, &error);
  Host("gethostbyname2_r", result);
  gethostbyaddr_r(four, 4, AF_INET, &entry, buffer, sizeof buffer, &result, &error);
  Host("gethostbyaddr_r", result);
  struct sockaddr_in address = {.sin_family = AF_INET};
  memcpy(&address.sin_addr, four, 4);
  char host[256] = "";
  printf("getnameinfo: %d", getnameinfo((struct sockaddr*)&address, sizeof address, host, sizeof host, NULL, 0, 0));
  printf(" %s\n", host);
  const struct {
    const char* name;
    int family;
    int flags;
  } asked[] = {{"host.test", AF_UNSPEC, 0},         {"web.test", AF_UNSPEC, AI_ADDRCONFIG},
               {"alias.test", AF_UNSPEC, AI_CANONNAME}, {"many.test", AF_INET, 0},
               {"no.test", AF_UNSPEC, 0},           {"127.0.0.1", AF_UNSPEC, AI_NUMERICHOST}};
  for (size_t i = 0; i < sizeof asked / sizeof asked[0]; ++i) {
    const struct addrinfo hints = {
        .ai_family = asked[i].family, .ai_flags = asked[i].flags, .ai_socktype = SOCK_STREAM};
    struct addrinfo* list = NULL;
    const int status = getaddrinfo(asked[i].name, "80", &hints, &list);
    printf("getaddrinfo %s:%s%s", asked[i].name, status == 0 ? "" : " ", status == 0 ? "" : gai_strerror(status));
    int count = 0;
    for (struct addrinfo* a = list; a != NULL; a = a->ai_next, ++count) {
      if (getnameinfo(a->ai_addr, a->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST) != 0) return 1;
      if (count < 3) printf(" %s", host);
    }
    printf(" (%d) %s\n", count, list != NULL && list->ai_canonname != NULL ? list->ai_canonname : "");
    if (list != NULL) freeaddrinfo(list);
  }
  return 0;
}

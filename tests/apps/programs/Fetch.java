// An HTTP server with threads, and its own client: Fetch ADDRESS PORT prints how many bytes a hundred
// requests brought.
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URL;
import java.util.concurrent.Executors;

public class Fetch {
  public static void main(String[] arguments) throws Exception {
    final int port = Integer.parseInt(arguments[1]);
    final HttpServer server = HttpServer.create(new InetSocketAddress(arguments[0], port), 0);
    server.createContext(
        "/",
        exchange -> {
          final byte[] body = "hello".getBytes();
          exchange.sendResponseHeaders(200, body.length);
          exchange.getResponseBody().write(body);
          exchange.close();
        });
    server.setExecutor(Executors.newFixedThreadPool(4));
    server.start();
    int bytes = 0;
    for (int i = 0; i < 100; ++i) {
      final URL url = new URL("http://" + arguments[0] + ":" + port + "/");
      bytes += url.openConnection().getInputStream().readAllBytes().length;
    }
    System.out.println(bytes);
    System.exit(0);
  }
}

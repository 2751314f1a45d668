import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.concurrent.CyclicBarrier;

/** Eight threads make garbage and hash it, round after round; what they come to is the same whatever their order. */
class Rounds {
    static final int THREADS = 8;
    static final byte[][] states = new byte[THREADS][32];

    public static void main(String[] words) throws Exception {
        int rounds = Integer.parseInt(words[0]);
        CyclicBarrier barrier = new CyclicBarrier(THREADS + 1);
        for (int number = 0; number < THREADS; number++) {
            int own = number;
            new Thread(() -> work(own, rounds, barrier)).start();
        }
        for (int round = 1; round <= rounds; round++) {
            barrier.await();
            MessageDigest all = MessageDigest.getInstance("SHA-256");
            for (byte[] state : states) all.update(state);
            System.out.println(round + " " + HexFormat.of().formatHex(all.digest()));
            barrier.await();
        }
    }

    static void work(int own, int rounds, CyclicBarrier barrier) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            for (int round = 0; round < rounds; round++) {
                ArrayList<byte[]> garbage = new ArrayList<>();
                for (int piece = 0; piece < 400; piece++) garbage.add(new byte[2048]);
                digest.update(states[own]);
                for (byte[] piece : garbage) digest.update(piece);
                states[own] = digest.digest();
                barrier.await();
                barrier.await();
            }
        } catch (Exception fault) {
            fault.printStackTrace();
            System.exit(1);
        }
    }
}

package com.example.useradmin;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Tests of the program that deletes one user. */
class DeleteUserTest {
    @ParameterizedTest
    @CsvSource({
        "batch pool-1 node-running carol, 0, DELETE_OUTCOME_DELETED",
        "--allow-missing hmc nobody, 0, DELETE_OUTCOME_ALREADY_ABSENT",
        "--validate-only hmc carol, 0, DELETE_OUTCOME_VALIDATED",
        "--plaintext hmc alice, 1, --plaintext |",
        "hmc nobody, 1, do not repeat it before the cause is removed",
        "hmc busy, 1, repeat it after 2s",
        "hmc hmc-defect, 1, repeat it with --allow-missing after",
        "hmc, 1, batch POOL NODE USER",
    })
    void itSaysHowItWent(String line, int code, String says) throws Exception {
        Stream<String> shown = Stream.of(
                "--address", Sandbox.address(),
                "--ca", Sandbox.file("ca.pem").getPath(),
                "--cert", Sandbox.file("client.pem").getPath(),
                "--key", Sandbox.file("client.key").getPath());
        run(Stream.concat(shown, Stream.of(line.split(" "))), code, says);
    }

    @ParameterizedTest
    @CsvSource({
        "--validate-only batch pool-1 node-idle alice, DELETE_OUTCOME_VALIDATED",
        "hmc alice, DELETE_OUTCOME_DELETED",
    })
    void itWorksWithoutTls(String line, String says) throws Exception {
        Stream<String> shown = Stream.of("--address", Sandbox.plaintextAddress(), "--plaintext");
        run(Stream.concat(shown, Stream.of(line.split(" "))), 0, says);
    }

    private static void run(Stream<String> line, int code, String says) throws Exception {
        String[] arguments = line.toArray(String[]::new);
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        assertEquals(code, DeleteUser.run(arguments, new PrintStream(out), new PrintStream(err)), err::toString);
        String said = (code == 0 ? out : err).toString();
        assertTrue(said.contains(says), said);
    }
}

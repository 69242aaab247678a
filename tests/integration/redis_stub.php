<?php // As much of phpredis as docs/migration.md's worker uses, for machines without it.
class Redis
{
    private $stream;

    public function connect(string $host, int $port): void
    {
        $this->stream = fsockopen($host, $port);
    }

    public function __call(string $name, array $arguments): string
    {
        $parts = [$name, ...$arguments];
        $packed = '*' . count($parts) . "\r\n";
        foreach ($parts as $part) {
            $packed .= '$' . strlen($part) . "\r\n" . $part . "\r\n";
        }
        fwrite($this->stream, $packed);
        return fgets($this->stream);
    }
}

// A miner in Go that has Kafka, our Avro schemas and docs/format.md, and nothing else of ours.
//
//	go run . BROKER ORIGIN MINER BOOKS [TASKS]
//
// e.g. go run . 127.0.0.1:9092 eu.1 go-1 ../../schemas/everlode/events/past 1
//
// It registers, deposits a stake, and solves what it is given until it has solved TASKS (1). It may
// be killed at any moment: its place in the log is its consumer group's, and each command has an
// id of its own, so that one which is sent again is carried out once.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
)

// header is the first field of every command.
type header struct {
	CommandID     string    `avro:"command_id"`
	AggregateID   string    `avro:"aggregate_id"`
	IssuedBy      string    `avro:"issued_by"`
	ReplyTo       string    `avro:"reply_to"`
	IssuedAt      time.Time `avro:"issued_at"`
	CorrelationID string    `avro:"correlation_id"`
	CausationID   *string   `avro:"causation_id"`
}

type registerMiner struct {
	Header        header   `avro:"header"`
	OperatorID    string   `avro:"operator_id"`
	Endpoint      string   `avro:"endpoint"`
	Specialties   []string `avro:"specialties"`
	GPUs          int64    `avro:"gpus"`
	GPUModel      string   `avro:"gpu_model"`
	CPUMilli      int64    `avro:"cpu_milli"`
	MemoryMiB     int64    `avro:"memory_mib"`
	MaxConcurrent int64    `avro:"max_concurrent"`
}

type depositStake struct {
	Header      header `avro:"header"`
	AmountMicro int64  `avro:"amount_micro"`
}

type submitSolution struct {
	Header         header `avro:"header"`
	MinerID        string `avro:"miner_id"`
	Attempt        int64  `avro:"attempt"`
	SolutionID     string `avro:"solution_id"`
	SolutionURI    string `avro:"solution_uri"`
	SolutionSHA256 string `avro:"solution_sha256"`
	SolutionBytes  int64  `avro:"solution_bytes"`
	WorkMs         int64  `avro:"work_ms"`
}

// Of what is read, only the fields that are used: the library passes over the others.
type answered struct {
	CommandID string `avro:"command_id"`
	Outcome   string `avro:"outcome"`
	Code      string `avro:"code"`
	Message   string `avro:"message"`
	Facts     []struct {
		EventType string `avro:"event_type"`
		Topic     string `avro:"topic"`
	} `avro:"facts"`
}

type assignedTask struct {
	TaskID        string `avro:"task_id"`
	MinerID       string `avro:"miner_id"`
	FirstAttempt  int64  `avro:"first_attempt"`
	PayloadSHA256 string `avro:"payload_sha256"`
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// book knows every schema that there is or was, by the eight bytes that a record begins with.
// They are read from our list: what this library computes differs where a type is logical.
type book struct {
	names   map[string]string      // fingerprint → type
	schemas map[string]avro.Schema // fingerprint → schema
	current map[string]string      // type → fingerprint of its newest schema
}

func readBooks(folder string) book {
	found := book{map[string]string{}, map[string]avro.Schema{}, map[string]string{}}
	files, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	check(err)
	for _, name := range files {
		file, err := os.Open(name)
		check(err)
		defer file.Close()
		lines := bufio.NewScanner(file)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var line struct {
				Type, Fingerprint string
				Schema            json.RawMessage
			}
			check(json.Unmarshal(lines.Bytes(), &line))
			// a cache of its own: schemas of one name and several ages are not to be mixed
			schema, err := avro.ParseWithCache(string(line.Schema), "", &avro.SchemaCache{})
			check(err)
			found.names[line.Fingerprint] = line.Type
			found.schemas[line.Fingerprint] = schema
			found.current[line.Type] = line.Fingerprint
		}
		check(lines.Err())
	}
	return found
}

// read gives the type of a record, and its value if it is of the type wanted.
func (b book) read(data []byte, wanted string, into any) bool {
	if len(data) < 10 || data[0] != 0xC3 || data[1] != 0x01 {
		return false
	}
	mark := hex.EncodeToString(data[2:10])
	if b.names[mark] != wanted {
		return false
	}
	check(avro.Unmarshal(b.schemas[mark], data[10:], into))
	return true
}

func (b book) write(name string, value any) []byte {
	mark := b.current[name]
	body, err := avro.Marshal(b.schemas[mark], value)
	check(err)
	head, err := hex.DecodeString("c301" + mark)
	check(err)
	return append(head, body...)
}

type miner struct {
	book
	client *kgo.Client
	region string
	id     string
}

func (m miner) header(aggregate, command string) header {
	return header{
		CommandID: command, AggregateID: aggregate, IssuedBy: m.id, ReplyTo: m.id,
		IssuedAt: time.Now(), CorrelationID: command,
	}
}

// send returns once the command is stored; its answer comes by the replies topic.
func (m miner) send(ctx context.Context, component, key, name string, value any) {
	record := &kgo.Record{
		Topic: m.region + ".commands." + component, Key: []byte(key), Value: m.write(name, value),
	}
	check(m.client.ProduceSync(ctx, record).FirstErr())
}

func (m miner) solve(ctx context.Context, task assignedTask) string {
	sum := sha256.Sum256([]byte(task.PayloadSHA256)) // the work is a stand-in
	solution := hex.EncodeToString(sum[:])
	key := task.TaskID
	command := fmt.Sprintf("solve-%s-%d", key, task.FirstAttempt) // the same when it comes again
	m.send(ctx, "tasks", key, "SubmitSolution", submitSolution{
		Header: m.header(key, command), MinerID: m.id, Attempt: task.FirstAttempt,
		SolutionID:     fmt.Sprintf("s-%s-%d", key[strings.Index(key, "/")+1:], task.FirstAttempt),
		SolutionURI:    "s3://mine/" + solution,
		SolutionSHA256: solution, SolutionBytes: 64, WorkMs: 5000,
	})
	return command
}

func (m miner) run(ctx context.Context, wanted int) {
	m.send(ctx, "miners", m.id, "RegisterMiner", registerMiner{
		Header: m.header(m.id, "register-"+m.id), OperatorID: m.id, Endpoint: "127.0.0.1:9000",
		Specialties: []string{"inference"}, GPUs: 1, CPUMilli: 1000, MemoryMiB: 1024, MaxConcurrent: 1,
	})
	m.send(ctx, "miners", m.id, "DepositStake", depositStake{
		Header: m.header(m.id, "first-stake-"+m.id), AmountMicro: 10_000_000,
	})
	solves := map[string]bool{}
	for wanted > 0 {
		fetched := m.client.PollFetches(ctx)
		check(ctx.Err())
		for _, failed := range fetched.Errors() {
			check(failed.Err)
		}
		fetched.EachRecord(func(record *kgo.Record) {
			var task assignedTask
			var answer answered
			if m.read(record.Value, "AssignedTask", &task) && task.MinerID == m.id {
				fmt.Println("assigned", task.TaskID)
				solves[m.solve(ctx, task)] = true
			}
			if m.read(record.Value, "CommandAnswered", &answer) && string(record.Key) == m.id {
				fmt.Println(answer.CommandID, answer.Outcome, answer.Code, answer.Message)
				for _, fact := range answer.Facts {
					fmt.Println(fact.EventType, "on", fact.Topic)
				}
				if solves[answer.CommandID] {
					wanted--
				}
			}
		})
		check(m.client.CommitUncommittedOffsets(ctx)) // what was handled, only now
	}
}

func main() {
	if len(os.Args) < 5 {
		fmt.Fprintln(os.Stderr, "go run . BROKER ORIGIN MINER BOOKS [TASKS]")
		os.Exit(2)
	}
	broker, origin, name, folder := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	wanted := 1
	if len(os.Args) > 5 {
		var err error
		wanted, err = strconv.Atoi(os.Args[5])
		check(err)
	}
	region, _, _ := strings.Cut(origin, ".")
	client, err := kgo.NewClient(
		kgo.SeedBrokers(broker),
		// keys choose partitions by murmur2, as everywhere in the network: this library's default
		kgo.ConsumerGroup("miner."+name),
		kgo.ConsumeTopics(region+".replies", "work."+origin), // what miners have, not all facts
		// a new group begins with what comes from now on
		kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(time.Now().UnixMilli())),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // it is written in transactions, with the facts
		kgo.DisableAutoCommit(),
	)
	check(err)
	defer client.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	miner{readBooks(folder), client, region, region + "/" + name}.run(ctx, wanted)
}

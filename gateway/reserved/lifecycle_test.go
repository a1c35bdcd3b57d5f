package reserved_test

import (
	"context"
	"testing"
	"time"

	"tidegate/gateway/broker"
	"tidegate/gateway/mqtt"
	"tidegate/gateway/reserved"
)

func TestLifecycleEventsSayWhatAWSSays(t *testing.T) {
	var got []string
	l := reserved.NewLifecycle(func(m mqtt.Message, _ func(error)) { got = append(got, m.Topic+" "+string(m.Payload)) })
	at := time.UnixMilli(5000)
	for _, e := range []broker.Event{
		{Kind: broker.Connected, ClientID: "c", Principal: "p", Session: "s", Version: 0, At: at, Address: "127.0.0.1"},
		{Kind: broker.Disconnected, ClientID: "c", Principal: "p", Session: "s", Version: 3, At: at, Reason: "CONNECTION_LOST"},
		{Kind: broker.ConnectFailed, ClientID: "c", Principal: "p", Session: "s", At: at, Address: "::1", Reason: "AUTHORIZATION_FAILED"},
		{Kind: broker.Subscribed, ClientID: "c", Principal: "p", Session: "s", At: at, Topics: []string{"a/#"}},
		{Kind: broker.Unsubscribed, ClientID: "c", Principal: "p", Session: "s", At: at, Topics: []string{"a/#"}},
	} {
		l.Note(e)
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := l.Run(ctx, func() {}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`$aws/events/presence/connected/c {"clientId":"c","timestamp":5000,"eventType":"connected","sessionIdentifier":"s","principalIdentifier":"p","ipAddress":"127.0.0.1","versionNumber":0}`,
		`$aws/events/presence/disconnected/c {"clientId":"c","timestamp":5000,"eventType":"disconnected","sessionIdentifier":"s","principalIdentifier":"p","clientInitiatedDisconnect":false,"disconnectReason":"CONNECTION_LOST","versionNumber":3}`,
		`$aws/events/presence/connect_failed/c {"clientId":"c","timestamp":5000,"eventType":"connect_failed","connectFailureReason":"AUTHORIZATION_FAILED","sessionIdentifier":"s","principalIdentifier":"p","ipAddress":"::1"}`,
		`$aws/events/subscriptions/subscribed/c {"clientId":"c","timestamp":5000,"eventType":"subscribed","sessionIdentifier":"s","principalIdentifier":"p","topics":["a/#"]}`,
		`$aws/events/subscriptions/unsubscribed/c {"clientId":"c","timestamp":5000,"eventType":"unsubscribed","sessionIdentifier":"s","principalIdentifier":"p","topics":["a/#"]}`,
	}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("event %d\n got %v\nwant %s", i, got[min(i, len(got)-1)], want[i])
		}
	}
}
